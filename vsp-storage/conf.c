/*
 * Configuration files: lines that are kept as they are, and what they mean.
 */
#include "vsp-storage/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hvcore/file.h"

static int no_memory(struct hv_err *err)
{
	return hv_fail(err, -ENOMEM, "not enough memory");
}

int vsp_conf_fail(const struct vsp_conf *conf, size_t line, int code, const struct hv_err *cause,
		  struct hv_err *err)
{
	return hv_fail(err, code, "%s:%zu: %s", conf->path, line, hv_err_text(cause, code));
}

/* Lines. */

static void line_done(struct vsp_conf_line *line)
{
	free(line->text);
	free(line->key);
	free(line->value);
	*line = (struct vsp_conf_line){ 0 };
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* A copy of text without what is blank at both ends. */
static char *trimmed(const char *text, size_t length)
{
	while (length && is_blank(*text)) {
		text++;
		length--;
	}
	while (length && is_blank(text[length - 1]))
		length--;
	return strndup(text, length);
}

static int take_section(struct vsp_conf_line *line, const char *text, struct hv_err *err)
{
	size_t length = strlen(text);

	if (length < 3 || text[length - 1] != ']')
		return hv_fail(err, -EINVAL, "\"%s\" is no section: [NAME]", text);
	line->kind = VSP_CONF_SECTION;
	line->key = trimmed(text + 1, length - 2);
	if (!line->key)
		return no_memory(err);
	if (!*line->key || strpbrk(line->key, "[]"))
		return hv_fail(err, -EINVAL, "\"%s\" is no section: [NAME]", text);
	return 0;
}

static int take_setting(struct vsp_conf_line *line, const char *text, struct hv_err *err)
{
	size_t length = strcspn(text, "=");

	line->kind = VSP_CONF_SETTING;
	line->key = trimmed(text, length);
	if (text[length])
		line->value = trimmed(text + length + 1, strlen(text + length + 1));
	if (!line->key || (text[length] && !line->value))
		return no_memory(err);
	if (!*line->key || strpbrk(line->key, " \t"))
		return hv_fail(err, -EINVAL, "\"%s\" is no setting: KEY = VALUE", text);
	if (line->value && !*line->value)
		return hv_fail(err, -EINVAL, "\"%s\": a value is missing", line->key);
	return 0;
}

static int judge_text(const char *text, size_t length, struct hv_err *err)
{
	if (length > VSP_CONF_MAX_LINE)
		return hv_fail(err, -EINVAL, "the line has more than %d bytes", VSP_CONF_MAX_LINE);
	for (size_t i = 0; i < length; i++)
		if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
			return hv_fail(err, -EINVAL, "there is a control character (%d)", text[i]);
	return 0;
}

static int line_take(struct vsp_conf_line *line, const char *text, size_t length,
		     struct hv_err *err)
{
	HV_AUTO(free) char *bare = NULL;
	int rc = judge_text(text, length, err);

	if (rc)
		return rc;
	line->text = strndup(text, length);
	bare = trimmed(text, length);
	if (!line->text || !bare)
		return no_memory(err);
	if (!*bare || *bare == '#')
		return 0;
	return *bare == '[' ? take_section(line, bare, err) : take_setting(line, bare, err);
}

/* Makes room for a line at index; NULL without memory. */
static struct vsp_conf_line *insert(struct vsp_conf *conf, size_t index)
{
	struct vsp_conf_line *lines =
		reallocarray(conf->lines, conf->count + 1, sizeof(*conf->lines));

	if (!lines)
		return NULL;
	conf->lines = lines;
	memmove(lines + index + 1, lines + index, (conf->count - index) * sizeof(*lines));
	lines[index] = (struct vsp_conf_line){ 0 };
	conf->count++;
	return &lines[index];
}

static void drop(struct vsp_conf *conf, size_t index)
{
	line_done(&conf->lines[index]);
	conf->count--;
	memmove(conf->lines + index, conf->lines + index + 1,
		(conf->count - index) * sizeof(*conf->lines));
}

/* Reading. */

static int take_text(struct vsp_conf *conf, const char *text, size_t length, struct hv_err *err)
{
	while (length) {
		const char *end = memchr(text, '\n', length);
		size_t n = end ? (size_t)(end - text) : length;
		struct vsp_conf_line *line = insert(conf, conf->count);
		HV_ERR(cause);
		int rc = line ? line_take(line, text, n, &cause) : no_memory(&cause);

		if (rc)
			return vsp_conf_fail(conf, conf->count, rc, &cause, err);
		n += end != NULL;
		text += n;
		length -= n;
	}
	return 0;
}

int vsp_conf_parse(const char *path, const char *text, size_t length, struct vsp_conf **ret,
		   struct hv_err *err)
{
	HV_AUTO(vsp_conf_free) struct vsp_conf *conf = calloc(1, sizeof(*conf));
	int rc;

	if (!conf || !(conf->path = strdup(path)))
		return no_memory(err);
	if (length > VSP_CONF_MAX_BYTES)
		return hv_fail(err, -E2BIG, "%s: a configuration file has at most %u bytes", path,
			       VSP_CONF_MAX_BYTES);
	rc = take_text(conf, text, length, err);
	if (rc)
		return rc;
	*ret = hv_steal(conf);
	return 0;
}

/* Up to one byte more than allowed. */
static int read_all(int fd, char *text, size_t *length)
{
	ssize_t n = 1;

	for (*length = 0; *length <= VSP_CONF_MAX_BYTES && n; *length += (size_t)n) {
		n = read(fd, text + *length, VSP_CONF_MAX_BYTES + 1 - *length);
		if (n < 0)
			return -errno;
	}
	return 0;
}

int vsp_conf_read(const char *path, struct vsp_conf **ret, struct hv_err *err)
{
	HV_AUTO(free) char *text = malloc(VSP_CONF_MAX_BYTES + 1);
	HV_AUTO(close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	size_t length;
	int rc;

	if (!text)
		return no_memory(err);
	if (fd < 0 || fstat(fd, &st))
		return hv_fail_errno(err, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return hv_fail(err, -EINVAL, "%s is no regular file", path);
	rc = read_all(fd, text, &length);
	if (rc)
		return hv_fail_errno(err, rc, "%s", path);
	return vsp_conf_parse(path, text, length, ret, err);
}

void vsp_conf_free(struct vsp_conf *conf)
{
	if (!conf)
		return;
	for (size_t i = 0; i < conf->count; i++)
		line_done(&conf->lines[i]);
	free(conf->lines);
	free(conf->path);
	free(conf);
}

/* Writing. */

char *vsp_conf_text(const struct vsp_conf *conf, size_t *length)
{
	char *text, *end;

	*length = 0;
	for (size_t i = 0; i < conf->count; i++)
		*length += strlen(conf->lines[i].text) + 1;
	text = end = malloc(*length + 1);
	for (size_t i = 0; text && i < conf->count; i++)
		end += sprintf(end, "%s\n", conf->lines[i].text);
	if (text)
		*end = '\0';
	return text;
}

int vsp_conf_write(const struct vsp_conf *conf, struct hv_err *err)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	size_t length;
	HV_AUTO(free) char *text = vsp_conf_text(conf, &length);
	int rc;

	if (!text)
		return no_memory(err);
	if (length > VSP_CONF_MAX_BYTES)
		return hv_fail(err, -E2BIG, "%s: a configuration file has at most %u bytes",
			       conf->path, VSP_CONF_MAX_BYTES);
	rc = hv_file_create(conf->path, HV_FILE_WRITE, true, NULL, &file, err);
	if (rc == 0)
		rc = hv_file_pwrite(file, text, length, 0, err);
	if (rc == 0)
		rc = hv_file_publish(file, err);
	return rc;
}

/* Changing. */

/* Index of the section's first line behind its head; conf->count + 1: there is no such section. */
static size_t section_start(const struct vsp_conf *conf, const char *section)
{
	if (!*section)
		return 0;
	for (size_t i = 0; i < conf->count; i++)
		if (conf->lines[i].kind == VSP_CONF_SECTION && !strcmp(conf->lines[i].key, section))
			return i + 1;
	return conf->count + 1;
}

/* Index of the line with key in the section that starts there, or where one is to be put. */
static size_t place_of(const struct vsp_conf *conf, size_t start, const char *key, bool *found)
{
	size_t place = start;

	*found = false;
	for (size_t i = start; i < conf->count && conf->lines[i].kind != VSP_CONF_SECTION; i++) {
		if (conf->lines[i].kind != VSP_CONF_SETTING)
			continue;
		place = i + 1;
		if (!strcmp(conf->lines[i].key, key)) {
			*found = true;
			return i;
		}
	}
	return place;
}

/* The line that format and its words make, which must mean them again. */
static int make_line(struct vsp_conf_line *ret, const char *key, const char *value,
		     enum vsp_conf_kind kind, struct hv_err *err)
{
	HV_AUTO(free) char *text = NULL;
	struct vsp_conf_line line = { 0 };
	int rc;

	if (asprintf(&text,
		     kind == VSP_CONF_SECTION ? "[%s]" :
		     value                    ? "%s = %s" :
						"%s",
		     key, value) < 0)
		return no_memory(err);
	rc = line_take(&line, text, strlen(text), err);
	if (rc == 0 && (line.kind != kind || strcmp(line.key, key) || !line.value != !value ||
			(value && strcmp(line.value, value))))
		rc = hv_fail(err, -EINVAL, "\"%s\" cannot be written into a configuration file",
			     text);
	if (rc) {
		line_done(&line);
		return rc;
	}
	*ret = line;
	return 0;
}

static int append(struct vsp_conf *conf, struct vsp_conf_line *line, size_t index,
		  struct hv_err *err)
{
	struct vsp_conf_line *place = insert(conf, index);

	if (!place) {
		line_done(line);
		return no_memory(err);
	}
	*place = *line;
	return 0;
}

/* An empty line goes before it. */
static int add_section(struct vsp_conf *conf, const char *section, struct hv_err *err)
{
	struct vsp_conf_line line, empty = { .text = strdup("") };
	int rc = empty.text ? make_line(&line, section, NULL, VSP_CONF_SECTION, err) :
			      no_memory(err);

	if (rc || !conf->count) {
		line_done(&empty);
		return rc ? rc : append(conf, &line, conf->count, err);
	}
	rc = append(conf, &empty, conf->count, err);
	if (rc == 0)
		return append(conf, &line, conf->count, err);
	line_done(&line);
	return rc;
}

int vsp_conf_set(struct vsp_conf *conf, const char *section, const char *key, const char *value,
		 struct hv_err *err)
{
	struct vsp_conf_line line;
	size_t start = section_start(conf, section), place;
	bool found;
	int rc = 0;

	if (start > conf->count) {
		rc = add_section(conf, section, err);
		start = conf->count;
	}
	if (rc == 0)
		rc = make_line(&line, key, value, VSP_CONF_SETTING, err);
	if (rc)
		return rc;
	place = place_of(conf, start, key, &found);
	if (!found)
		return append(conf, &line, place, err);
	line_done(&conf->lines[place]);
	conf->lines[place] = line;
	return 0;
}

int vsp_conf_unset(struct vsp_conf *conf, const char *section, const char *key, struct hv_err *err)
{
	size_t start = section_start(conf, section), place = 0;
	bool found = false;

	if (start <= conf->count)
		place = place_of(conf, start, key, &found);
	if (!found)
		return hv_fail(err, -EINVAL, "\"%s\" is not set", key);
	drop(conf, place);
	return 0;
}

void vsp_conf_remove_section(struct vsp_conf *conf, const char *section)
{
	size_t start = section_start(conf, section), end = start;

	if (!start || start > conf->count)
		return;
	for (size_t i = start; i < conf->count && conf->lines[i].kind != VSP_CONF_SECTION; i++)
		if (conf->lines[i].kind == VSP_CONF_SETTING)
			end = i + 1;
	while (end-- > start - 1)
		drop(conf, end);
	/* The empty line that parted it from what was before. */
	if (start >= 2 && !*conf->lines[start - 2].text)
		drop(conf, start - 2);
}
