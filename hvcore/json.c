/*
 * JSON over jansson. Every value that can be filled is wrapped; the wrappers of a tree hang on the
 * list of its root, which also remembers the first failure and owns everything.
 */
#include "hvcore/json.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/utf.h"

#define INDENT 2
#define REAL_DIGITS 15

struct hv_json {
	json_t *value;         /* the root's own reference; lent by the container otherwise */
	struct hv_json *root;  /* itself at the root */
	struct hv_json *inner; /* at the root: the wrappers of the tree */
	struct hv_json *next;
	bool failed; /* at the root: an allocation failed somewhere in the tree */
};

static struct hv_json *new_root(json_t *value)
{
	struct hv_json *json = calloc(1, sizeof(*json));

	if (!json || !value) {
		json_decref(value);
		free(json);
		return NULL;
	}
	json->value = value;
	json->root = json;
	return json;
}

struct hv_json *hv_json_object(void)
{
	return new_root(json_object());
}

struct hv_json *hv_json_array(void)
{
	return new_root(json_array());
}

void hv_json_free(struct hv_json *json)
{
	struct hv_json *inner, *next;

	if (!json)
		return;
	for (inner = json->inner; inner; inner = next) {
		next = inner->next;
		free(inner);
	}
	json_decref(json->value);
	free(json);
}

/* jansson takes value over, even when it fails, and fails for a value of NULL. */
static void set(struct hv_json *object, const char *key, json_t *value)
{
	if (!object)
		json_decref(value);
	else if (json_object_set_new(object->value, key, value) < 0)
		object->root->failed = true;
}

static void append(struct hv_json *array, json_t *value)
{
	if (!array)
		json_decref(value);
	else if (json_array_append_new(array->value, value) < 0)
		array->root->failed = true;
}

/* A copy with U+FFFD for each byte that belongs to no well-formed character. */
static char *replace_malformed(const char *text)
{
	static const char replacement[] = "\xef\xbf\xbd";
	char *copy = calloc(strlen(text) + 1, sizeof(replacement) - 1);
	char *out = copy;

	while (copy && *text) {
		size_t length = hv_utf8_length(text);

		if (length)
			out = mempcpy(out, text, length);
		else
			out = mempcpy(out, replacement, sizeof(replacement) - 1);
		text += length ? length : 1;
	}
	return copy;
}

/* NULL when no memory is left. */
static json_t *make_string(const char *text)
{
	HV_AUTO(free) char *copy = NULL;

	if (!text)
		return json_null();
	if (hv_utf8_valid(text))
		return json_string_nocheck(text);
	copy = replace_malformed(text);
	return copy ? json_string_nocheck(copy) : NULL;
}

void hv_json_set_string(struct hv_json *object, const char *key, const char *text)
{
	set(object, key, make_string(text));
}

void hv_json_set_number(struct hv_json *object, const char *key, uint64_t number)
{
	if (number <= INT64_MAX)
		set(object, key, json_integer((json_int_t)number));
	else
		set(object, key, json_real((double)number));
}

/* JSON knows neither infinity nor "not a number". */
void hv_json_set_real(struct hv_json *object, const char *key, double number)
{
	set(object, key, isfinite(number) ? json_real(number) : json_null());
}

void hv_json_set_bool(struct hv_json *object, const char *key, bool value)
{
	set(object, key, json_boolean(value));
}

void hv_json_set_null(struct hv_json *object, const char *key)
{
	set(object, key, json_null());
}

/* A wrapper for value, which already lies in outer's tree; NULL after a failure. */
static struct hv_json *wrap(struct hv_json *outer, json_t *value)
{
	struct hv_json *root = outer ? outer->root : NULL, *inner;

	if (!root || root->failed)
		return NULL;
	inner = calloc(1, sizeof(*inner));
	if (!inner) {
		root->failed = true;
		return NULL;
	}
	inner->value = value;
	inner->root = root;
	inner->next = root->inner;
	root->inner = inner;
	return inner;
}

struct hv_json *hv_json_set_object(struct hv_json *object, const char *key)
{
	json_t *value = json_object();

	set(object, key, value);
	return wrap(object, value);
}

struct hv_json *hv_json_set_array(struct hv_json *object, const char *key)
{
	json_t *value = json_array();

	set(object, key, value);
	return wrap(object, value);
}

struct hv_json *hv_json_add_object(struct hv_json *array)
{
	json_t *value = json_object();

	append(array, value);
	return wrap(array, value);
}

void hv_json_add_string(struct hv_json *array, const char *text)
{
	append(array, make_string(text));
}

void hv_json_set_copy(struct hv_json *object, const char *key, const struct hv_json *value)
{
	set(object, key, value && !value->root->failed ? json_deep_copy(value->value) : NULL);
}

/* Reading. */

int hv_json_parse(const char *text, size_t length, struct hv_json **ret, struct hv_err *err)
{
	json_error_t error;
	json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	struct hv_json *json;

	if (!value && json_error_code(&error) == json_error_out_of_memory)
		return hv_fail(err, -ENOMEM, "not enough memory");
	if (!value)
		return hv_fail(err, -EINVAL, "no JSON: %s (at byte %d)", error.text,
			       error.position);
	json = new_root(value);
	if (!json)
		return hv_fail(err, -ENOMEM, "not enough memory");
	*ret = json;
	return 0;
}

/* NULL for what is no object, too. */
static json_t *member(const struct hv_json *json, const char *key)
{
	return json ? json_object_get(json->value, key) : NULL;
}

const char *hv_json_get_string(const struct hv_json *json, const char *key)
{
	return json_string_value(member(json, key));
}

bool hv_json_get_number(const struct hv_json *json, const char *key, uint64_t *ret)
{
	const json_t *value = member(json, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*ret = (uint64_t)json_integer_value(value);
	return true;
}

bool hv_json_get_bool(const struct hv_json *json, const char *key, bool *ret)
{
	const json_t *value = member(json, key);

	if (!json_is_boolean(value))
		return false;
	*ret = json_is_true(value);
	return true;
}

struct hv_json *hv_json_get_object(struct hv_json *json, const char *key)
{
	json_t *value = member(json, key);

	return json_is_object(value) ? wrap(json, value) : NULL;
}

struct hv_json *hv_json_get_array(struct hv_json *json, const char *key)
{
	json_t *value = member(json, key);

	return json_is_array(value) ? wrap(json, value) : NULL;
}

bool hv_json_has(const struct hv_json *json, const char *key)
{
	return member(json, key);
}

size_t hv_json_count(const struct hv_json *json)
{
	return json ? json_array_size(json->value) : 0;
}

const char *hv_json_string_at(const struct hv_json *array, size_t index)
{
	return array ? json_string_value(json_array_get(array->value, index)) : NULL;
}

struct hv_json *hv_json_object_at(struct hv_json *array, size_t index)
{
	json_t *value = array ? json_array_get(array->value, index) : NULL;

	return json_is_object(value) ? wrap(array, value) : NULL;
}

/* Printing. */

static int print(const struct hv_json *json, FILE *out, size_t flags)
{
	if (!json || json->root->failed)
		return -ENOMEM;
	if (json_dumpf(json->value, out, flags | JSON_REAL_PRECISION(REAL_DIGITS)) < 0)
		return ferror(out) ? -EIO : -ENOMEM;
	if (putc('\n', out) == EOF || fflush(out) == EOF)
		return -EIO;
	return 0;
}

int hv_json_print(const struct hv_json *json, FILE *out)
{
	return print(json, out, JSON_INDENT(INDENT));
}

int hv_json_print_line(const struct hv_json *json, FILE *out)
{
	return print(json, out, 0);
}

char *hv_json_dump(const struct hv_json *json)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);
	int rc = out ? hv_json_print(json, out) : -ENOMEM;

	if (out && fclose(out))
		rc = -ENOMEM;
	if (rc) {
		free(text);
		return NULL;
	}
	return text;
}
