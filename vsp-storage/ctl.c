/*
 * Asking vspd.
 */
#include "vsp-storage/ctl.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "hvcore/size.h"
#include "vsp-storage/places.h"

#define NAME "vspctl"

const struct hv_option ctl_plain_options[] = { CTL_COMMON_OPTIONS(struct ctl_plain_options),
					       { 0 } };

int ctl_fail(int code, const char *fmt, ...)
{
	HV_AUTO(free) char *text = NULL;
	HV_ERR(err);
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	hv_fail(&err, code, "%s", text ? text : "not enough memory");
	return hv_program_failed(NAME, &err, code);
}

/* The connection. */

static int connect_to(const char *path, FILE **ret, struct hv_err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, code;

	if (strlen(path) >= sizeof(address.sun_path))
		return hv_fail(err, -ENAMETOOLONG, "%s: a Unix socket's path has at most %zu bytes",
			       path, sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return hv_fail_errno(err, -errno, "cannot make a socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    (*ret = fdopen(fd, "r+")))
		return 0;
	code = -errno;
	close(fd);
	return hv_fail(err, code,
		       code == -ENOENT || code == -ECONNREFUSED ? "%s: vspd is not running (%s)" :
								  "%s: cannot speak to vspd: %s",
		       path, strerror(-code));
}

/* fd is written to by itself, so that the stream is only read from. */
static int send_request(FILE *stream, const struct hv_json *request, struct hv_err *err)
{
	HV_AUTO(free) char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);
	int rc = out ? hv_json_print_line(request, out) : -ENOMEM;

	if (out)
		fclose(out);
	if (rc == 0 && send(fileno(stream), text, length, MSG_NOSIGNAL) != (ssize_t)length)
		rc = -errno;
	return rc ? hv_fail_errno(err, rc, "cannot speak to vspd") : 0;
}

static int open_stream(const struct ctl_common *common, const struct hv_json *request, FILE **ret,
		       struct hv_err *err)
{
	HV_AUTO(free) char *path = common->socket ? strdup(common->socket) : NULL;
	int rc = 0;

	*ret = NULL;
	if (!path)
		rc = vsp_control_path(&path, err);
	if (rc == 0)
		rc = connect_to(path, ret, err);
	if (rc)
		return rc;
	assert(*ret);
	rc = send_request(*ret, request, err);
	if (rc)
		fclose(*ret);
	return rc;
}

/* NULL with no sentence at the end of the stream. */
static struct hv_json *next_line(FILE *stream, struct hv_err *err)
{
	HV_AUTO(free) char *line = NULL;
	struct hv_json *json = NULL;
	size_t size = 0;
	ssize_t length = getline(&line, &size, stream);

	if (length > 0)
		hv_json_parse(line, (size_t)length, &json, err);
	return json;
}

/* 0, or -1 with vspd's sentence. */
static int judge(const struct hv_json *answer, struct hv_err *err)
{
	const char *sentence = hv_json_get_string(answer, "error");
	bool ok = false;

	if (hv_json_get_bool(answer, "ok", &ok) && ok)
		return 0;
	if (!answer)
		return hv_fail(err, -ECONNRESET, "vspd has ended the connection");
	return hv_fail(err, -EIO, "%s", sentence ? sentence : "vspd gave no answer");
}

static int exchange(const struct ctl_common *common, const struct hv_json *request,
		    struct hv_json **ret, struct hv_err *err)
{
	FILE *stream;
	int rc = open_stream(common, request, &stream, err);

	if (rc)
		return rc;
	*ret = next_line(stream, err);
	fclose(stream);
	return judge(*ret, err);
}

int ctl_ask(const struct ctl_common *common, struct hv_json *request, struct hv_json **answer,
	    struct hv_json **result)
{
	HV_AUTO(hv_json_free) struct hv_json *line = NULL;
	HV_ERR(err);
	int rc = exchange(common, request, &line, &err);

	hv_json_free(request);
	if (rc)
		return hv_program_failed(NAME, &err, rc);
	*result = hv_json_get_object(line, "result");
	*answer = hv_steal(line);
	return HV_PROGRAM_DONE;
}

int ctl_do(const struct ctl_common *common, struct hv_json *request)
{
	HV_AUTO(hv_json_free) struct hv_json *answer = NULL;
	struct hv_json *result = NULL;
	int status = ctl_ask(common, request, &answer, &result);

	if (status || !common->json)
		return status;
	return hv_program_print_json(NAME, result);
}

struct hv_json *ctl_request(const char *command, const char *vm, const char *disk)
{
	struct hv_json *request = hv_json_object();

	hv_json_set_string(request, "command", command);
	if (vm)
		hv_json_set_string(request, "vm", vm);
	if (disk)
		hv_json_set_string(request, "disk", disk);
	return request;
}

int ctl_listen(const struct ctl_common *common, struct hv_json *request,
	       void (*print)(struct hv_json *line))
{
	HV_ERR(err);
	FILE *stream;
	int rc = open_stream(common, request, &stream, &err);
	struct hv_json *line = NULL;

	hv_json_free(request);
	if (rc)
		return hv_program_failed(NAME, &err, rc);
	line = next_line(stream, &err);
	rc = judge(line, &err);
	hv_json_free(line);
	while (rc == 0 && (line = next_line(stream, &err))) {
		if (common->json)
			rc = hv_json_print_line(line, stdout);
		else
			print(line);
		hv_json_free(line);
		if (fflush(stdout))
			rc = -errno;
	}
	fclose(stream);
	return rc || err.code ? hv_program_failed(NAME, &err, rc) : HV_PROGRAM_DONE;
}

/* Showing. */

char *ctl_text(const struct hv_json *object, const char *key)
{
	const char *text = hv_json_get_string(object, key);

	return hv_harmless(text && *text ? text : "-");
}

const char *ctl_size(const struct hv_json *object, const char *key, char text[24])
{
	uint64_t bytes;

	if (!hv_json_get_number(object, key, &bytes))
		return "-";
	hv_size_format(bytes, text);
	return text;
}
