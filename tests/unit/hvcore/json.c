/*
 * JSON: output, and reading what others have sent.
 */
#include "hvcore/json.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Prints on one line and frees. */
static void assert_prints(struct hv_json *json, const char *expected)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	cr_assert(out);
	cr_assert_eq(hv_json_print_line(json, out), 0);
	fclose(out);
	cr_assert_str_eq(text, expected);
	free(text);
	hv_json_free(json);
}

Test(json, values_keep_their_order_and_kind)
{
	struct hv_json *json = hv_json_object();

	hv_json_set_string(json, "z", "text");
	hv_json_set_number(json, "y", 7);
	hv_json_set_real(json, "x", 0.5);
	hv_json_set_bool(json, "w", true);
	hv_json_set_bool(json, "v", false);
	hv_json_set_null(json, "u");
	assert_prints(json, "{\"z\": \"text\", \"y\": 7, \"x\": 0.5, \"w\": true, \"v\": false, "
			    "\"u\": null}\n");
}

Test(json, containers_nest)
{
	struct hv_json *json = hv_json_object(), *array, *inner;

	array = hv_json_set_array(json, "list");
	hv_json_add_string(array, "one");
	inner = hv_json_add_object(array);
	hv_json_set_number(inner, "n", 1);
	inner = hv_json_set_object(json, "object");
	hv_json_set_object(inner, "empty");
	assert_prints(json, "{\"list\": [\"one\", {\"n\": 1}], \"object\": {\"empty\": {}}}\n");
}

Test(json, an_array_may_be_the_whole)
{
	struct hv_json *json = hv_json_array();

	hv_json_add_string(json, "a");
	hv_json_add_string(json, NULL);
	assert_prints(json, "[\"a\", null]\n");
}

Test(json, no_text_is_null)
{
	struct hv_json *json = hv_json_object();

	hv_json_set_string(json, "a", NULL);
	assert_prints(json, "{\"a\": null}\n");
}

Test(json, numbers_are_exact_to_63_bits)
{
	struct hv_json *json = hv_json_object();

	hv_json_set_number(json, "a", INT64_MAX);
	hv_json_set_number(json, "b", (UINT64_C(1) << 53) + 1);
	assert_prints(json, "{\"a\": 9223372036854775807, \"b\": 9007199254740993}\n");
}

Test(json, larger_numbers_are_not_negative)
{
	struct hv_json *json = hv_json_object();

	hv_json_set_number(json, "a", UINT64_MAX);
	assert_prints(json, "{\"a\": 1.84467440737096e19}\n");
}

Test(json, decimal_fractions_look_as_written)
{
	struct hv_json *json = hv_json_object();

	hv_json_set_real(json, "a", 0.1);
	assert_prints(json, "{\"a\": 0.1}\n");
}

Test(json, what_is_no_number_is_null)
{
	struct hv_json *json = hv_json_object();

	hv_json_set_real(json, "a", NAN);
	hv_json_set_real(json, "b", INFINITY);
	assert_prints(json, "{\"a\": null, \"b\": null}\n");
}

Test(json, bytes_that_are_not_utf8_are_replaced)
{
	struct hv_json *json = hv_json_object();

	hv_json_set_string(json, "a", "x\xffy\xc3\xa9\xe2\x82");
	assert_prints(json, "{\"a\": \"x\xef\xbf\xbdy\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\"}\n");
}

Test(json, control_characters_and_quotes_are_escaped)
{
	struct hv_json *json = hv_json_object();

	hv_json_set_string(json, "a", "\"\\\n\x1b");
	assert_prints(json, "{\"a\": \"\\\"\\\\\\n\\u001B\"}\n");
}

Test(json, print_indents_by_two)
{
	struct hv_json *json = hv_json_object();
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	hv_json_set_number(hv_json_set_object(json, "a"), "b", 1);
	cr_assert_eq(hv_json_print(json, out), 0);
	fclose(out);
	cr_assert_str_eq(text, "{\n  \"a\": {\n    \"b\": 1\n  }\n}\n");
	free(text);
	hv_json_free(json);
}

Test(json, dump_gives_what_print_writes)
{
	struct hv_json *json = hv_json_object();
	char *text;

	hv_json_set_number(hv_json_set_object(json, "a"), "b", 1);
	text = hv_json_dump(json);
	cr_assert_str_eq(text, "{\n  \"a\": {\n    \"b\": 1\n  }\n}\n");
	free(text);
	hv_json_free(json);
	cr_assert_null(hv_json_dump(NULL));
}

Test(json, a_lost_object_is_reported_once_at_the_end)
{
	hv_json_set_string(NULL, "a", "b");
	hv_json_set_number(hv_json_set_object(NULL, "a"), "b", 1);
	hv_json_add_string(hv_json_set_array(NULL, "a"), "b");
	cr_assert_null(hv_json_add_object(NULL));
	cr_assert_eq(hv_json_print(NULL, stdout), -ENOMEM);
	hv_json_free(NULL);
}

Test(json, a_failure_inside_makes_the_whole_unprintable)
{
	struct hv_json *json = hv_json_object(), *inner = hv_json_set_object(json, "inner");

	hv_json_add_string(inner, "an object takes no elements");
	hv_json_set_number(json, "later", 1);
	cr_assert_eq(hv_json_print(json, stdout), -ENOMEM);
	hv_json_free(json);
}

Test(json, a_full_disk_is_an_error)
{
	struct hv_json *json = hv_json_object();
	FILE *full = fopen("/dev/full", "w");

	cr_assert(full);
	hv_json_set_number(json, "a", 1);
	cr_assert_eq(hv_json_print(json, full), -EIO);
	fclose(full);
	hv_json_free(json);
}

static struct hv_json *parse(const char *text)
{
	struct hv_json *json = NULL;
	HV_ERR(err);

	cr_assert_eq(hv_json_parse(text, strlen(text), &json, &err), 0, "%s", err.sentence);
	return json;
}

Test(json, members_are_got_by_key_and_kind)
{
	struct hv_json *json = parse("{\"s\":\"text\",\"n\":7,\"r\":0.5,\"b\":true,\"u\":null,"
				     "\"o\":{\"x\":1},\"a\":[\"one\",{\"y\":2}],\"m\":-1}");
	struct hv_json *array = hv_json_get_array(json, "a");
	uint64_t number = 0;
	bool yes = false;

	cr_assert_str_eq(hv_json_get_string(json, "s"), "text");
	cr_assert(hv_json_get_number(json, "n", &number) && number == 7);
	cr_assert(hv_json_get_bool(json, "b", &yes) && yes);
	cr_assert(hv_json_has(json, "u"));
	cr_assert(hv_json_get_number(hv_json_get_object(json, "o"), "x", &number) && number == 1);
	cr_assert_eq(hv_json_count(array), 2);
	cr_assert_str_eq(hv_json_string_at(array, 0), "one");
	cr_assert(hv_json_get_number(hv_json_object_at(array, 1), "y", &number) && number == 2);
	hv_json_free(json);
}

Test(json, what_is_not_there_or_of_another_kind_is_not_got)
{
	struct hv_json *json = parse("{\"s\":\"text\",\"m\":-1,\"r\":1.5}");
	uint64_t number = 5;
	bool yes = true;

	cr_assert_null(hv_json_get_string(json, "t"));
	cr_assert_not(hv_json_has(json, "t"));
	cr_assert_not(hv_json_get_number(json, "s", &number));
	cr_assert_not(hv_json_get_number(json, "m", &number));
	cr_assert_not(hv_json_get_number(json, "r", &number));
	cr_assert_eq(number, 5);
	cr_assert_not(hv_json_get_bool(json, "s", &yes));
	cr_assert_null(hv_json_get_object(json, "s"));
	cr_assert_null(hv_json_get_array(json, "s"));
	cr_assert_null(hv_json_get_string(NULL, "s"));
	cr_assert_eq(hv_json_count(json), 0);
	cr_assert_null(hv_json_object_at(NULL, 0));
	hv_json_free(json);
}

Test(json, hostile_text_is_refused_with_a_sentence)
{
	static const char *const bad[] = {
		"",    "{",           "{} {}",    "{\"a\":1,\"a\":2}", "[1,]",
		"nul", "\"\\u0000\"", "\"\xff\"", "{\"a\":1e999}",     "99999999999999999999"
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct hv_json *json = NULL;
		HV_ERR(err);

		cr_assert_eq(hv_json_parse(bad[i], strlen(bad[i]), &json, &err), -EINVAL, "%s",
			     bad[i]);
		cr_assert_eq(strncmp(err.sentence, "no JSON: ", 9), 0);
		cr_assert_null(json);
	}
}

Test(json, deep_nesting_is_refused)
{
	enum { DEPTH = 100000 };
	char *text = malloc(DEPTH);
	struct hv_json *json = NULL;

	memset(text, '[', DEPTH);
	cr_assert_eq(hv_json_parse(text, DEPTH, &json, NULL), -EINVAL);
	free(text);
}

Test(json, a_value_is_copied_into_another_tree)
{
	struct hv_json *from = parse("{\"a\":[1,{\"b\":null}]}"), *json = hv_json_object();

	hv_json_set_copy(json, "all", from);
	hv_json_free(from);
	assert_prints(json, "{\"all\": {\"a\": [1, {\"b\": null}]}}\n");
}
