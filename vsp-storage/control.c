/*
 * The control socket: connections, lines, answers.
 *
 * A connection has one command at a time; while it waits for the end of what it began, nothing more
 * is read from it. Connections are freed in vsp_control_turn only.
 */
#include "vsp-storage/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "hvcore/container.h"
#include "hvcore/log.h"
#include "vsp-storage/commands.h"
#include "vsp-storage/places.h"

struct connection {
	struct hv_watch watch; /* the first member */
	struct vsp_control *control;
	struct connection *next;
	struct vsp_peer peer;
	bool closed, ended; /* ended: no more commands come */
	bool events;        /* is told what happens */

	char *in;
	size_t in_bytes;
	char *out;
	size_t out_bytes, out_sent;

	struct hv_json *settling; /* the answer, held back; NULL: none */
	uint64_t ticket;
};

struct vsp_control {
	struct hv_loop *loop;
	struct vsp_control_context *context;
	struct vsp_listener listener;
	struct hv_watch watch;
	struct connection *connections;
	unsigned count;
};

/* Output. */

static void set_events(struct connection *connection)
{
	bool reads = !connection->settling && !connection->ended;
	bool writes = connection->out_sent < connection->out_bytes;

	if (connection->closed)
		return;
	hv_loop_rewatch(connection->control->loop, &connection->watch,
			(reads ? (uint32_t)EPOLLIN : 0) | (writes ? (uint32_t)EPOLLOUT : 0));
}

static void close_connection(struct connection *connection)
{
	if (connection->closed)
		return;
	connection->closed = true;
	hv_loop_unwatch(connection->control->loop, &connection->watch);
	close(connection->watch.fd);
}

static void send_out(struct connection *connection)
{
	while (!connection->closed && connection->out_sent < connection->out_bytes) {
		ssize_t n = send(connection->watch.fd, connection->out + connection->out_sent,
				 connection->out_bytes - connection->out_sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			close_connection(connection);
		else
			connection->out_sent += (size_t)n;
	}
	if (connection->out_sent == connection->out_bytes) {
		connection->out_sent = connection->out_bytes = 0;
		if (connection->ended && !connection->settling)
			close_connection(connection);
	}
	set_events(connection);
}

/* Who does not read is cut off. */
static void put(struct connection *connection, const char *text, size_t length)
{
	char *out;

	if (connection->closed)
		return;
	out = connection->out_bytes + length > VSP_CONTROL_OUTPUT ?
		      NULL :
		      realloc(connection->out, connection->out_bytes + length);
	if (!out) {
		close_connection(connection);
		return;
	}
	connection->out = out;
	memcpy(out + connection->out_bytes, text, length);
	connection->out_bytes += length;
	send_out(connection);
}

static void put_json(struct connection *connection, const struct hv_json *json)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);
	int rc = out ? hv_json_print_line(json, out) : -ENOMEM;

	if (out)
		fclose(out);
	if (rc == 0)
		put(connection, text, length);
	else
		close_connection(connection);
	free(text);
}

/* Commands. */

static struct hv_json *failure(int rc, const struct hv_err *err)
{
	struct hv_json *answer = hv_json_object();

	hv_json_set_bool(answer, "ok", false);
	hv_json_set_string(answer, "error", hv_err_text(err, rc));
	hv_json_set_string(answer, "code", strerrorname_np(-rc));
	return answer;
}

static void put_failure(struct connection *connection, int rc, const struct hv_err *err)
{
	HV_AUTO(hv_json_free) struct hv_json *answer = failure(rc, err);

	put_json(connection, answer);
}

/* Takes the answer over. Now, or when what has been begun has settled. */
static void put_answer(struct connection *connection, struct hv_json *answer, bool settles)
{
	struct vsp_registry *registry = connection->control->context->registry;

	if (settles) {
		connection->settling = answer;
		connection->ticket = registry->tickets;
		return;
	}
	put_json(connection, answer);
	hv_json_free(answer);
}

static void run(struct connection *connection, const struct vsp_control_command *command,
		struct hv_json *request)
{
	struct vsp_control_context *context = connection->control->context;
	struct hv_json *answer = hv_json_object();
	struct vsp_call call = { .context = context,
				 .peer = &connection->peer,
				 .request = request };
	uint64_t ticket = context->registry->tickets;
	bool settles = command->settles;
	HV_ERR(err);
	int rc;

	hv_json_set_bool(answer, "ok", true);
	call.result = hv_json_set_object(answer, "result");
	rc = vsp_control_run(command, &call, &err);
	if (command->changes)
		vsp_audit_write(context->audit, &connection->peer, request, rc, &err);
	if (rc) {
		hv_json_free(answer);
		answer = failure(rc, &err);
		settles = context->registry->tickets != ticket; /* what was begun is undone */
	}
	put_answer(connection, answer, settles);
}

static void subscribe(struct connection *connection)
{
	HV_AUTO(hv_json_free) struct hv_json *answer = hv_json_object();

	connection->events = true;
	hv_json_set_bool(answer, "ok", true);
	put_json(connection, answer);
}

static void take_line(struct connection *connection, const char *line, size_t length)
{
	HV_AUTO(hv_json_free) struct hv_json *request = NULL;
	const struct vsp_control_command *command = NULL;
	const char *name = NULL;
	HV_ERR(err);
	int rc = hv_json_parse(line, length, &request, &err);

	if (rc == 0 && !(name = hv_json_get_string(request, "command")))
		rc = hv_fail(&err, -EINVAL, "\"command\" is missing, or no text");
	if (rc == 0 && !strcmp(name, "events")) {
		subscribe(connection);
		return;
	}
	if (rc == 0 && !(command = vsp_control_find(name)))
		rc = hv_fail(&err, -ENOSYS, "there is no command \"%s\"", name);
	if (rc)
		put_failure(connection, rc, &err);
	else
		run(connection, command, request);
}

/* Input. */

static void take_input(struct connection *connection)
{
	size_t start = 0;
	char *end;

	while (!connection->settling && !connection->closed &&
	       (end = memchr(connection->in + start, '\n', connection->in_bytes - start))) {
		take_line(connection, connection->in + start,
			  (size_t)(end - connection->in) - start);
		start = (size_t)(end - connection->in) + 1;
	}
	connection->in_bytes -= start;
	memmove(connection->in, connection->in + start, connection->in_bytes);
}

static void refuse_long_line(struct connection *connection)
{
	HV_ERR(err);

	put_failure(connection,
		    hv_fail(&err, -E2BIG, "a command has at most %u bytes", VSP_CONTROL_LINE),
		    &err);
	close_connection(connection);
}

static void readable(struct connection *connection)
{
	ssize_t n = recv(connection->watch.fd, connection->in + connection->in_bytes,
			 VSP_CONTROL_LINE - connection->in_bytes, MSG_DONTWAIT);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			close_connection(connection);
		return;
	}
	connection->ended = n == 0;
	connection->in_bytes += (size_t)n;
	take_input(connection);
	if (connection->in_bytes == VSP_CONTROL_LINE && !connection->settling)
		refuse_long_line(connection);
}

static void ready(struct hv_watch *watch, uint32_t events)
{
	struct connection *connection = (struct connection *)watch;

	if (events & EPOLLIN)
		readable(connection);
	else if (events & (EPOLLHUP | EPOLLERR))
		close_connection(connection);
	send_out(connection);
}

/* Connections. */

static void connection_free(struct connection *connection)
{
	vsp_peer_done(&connection->peer);
	hv_json_free(connection->settling);
	free(connection->in);
	free(connection->out);
	free(connection);
}

static int connect_client(struct vsp_control *control, int fd)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	int rc = -ENOMEM;

	if (!connection)
		return rc;
	connection->watch = (struct hv_watch){ .fd = fd, .ready = ready };
	connection->control = control;
	connection->in = malloc(VSP_CONTROL_LINE);
	if (connection->in)
		rc = vsp_peer_of(fd, &connection->peer, NULL);
	if (rc == 0)
		rc = hv_loop_watch(control->loop, &connection->watch, EPOLLIN, NULL);
	if (rc) {
		connection_free(connection);
		return rc;
	}
	connection->next = control->connections;
	control->connections = connection;
	control->count++;
	return 0;
}

/* Beyond the limit, clients wait in the socket's queue. */
static void acceptable(struct hv_watch *watch, uint32_t events)
{
	struct vsp_control *control = hv_container_of(watch, struct vsp_control, watch);
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0 && connect_client(control, fd))
		close(fd);
	if (control->count == VSP_CONTROL_CLIENTS)
		hv_loop_rewatch(control->loop, &control->watch, 0);
}

/* The next commands may settle at once, too. */
static void settle(struct connection *connection)
{
	struct vsp_registry *registry = connection->control->context->registry;

	while (connection->settling && vsp_registry_is_settled(registry, connection->ticket)) {
		struct hv_json *answer = hv_steal(connection->settling);

		put_json(connection, answer);
		hv_json_free(answer);
		take_input(connection);
		send_out(connection);
	}
}

void vsp_control_turn(struct vsp_control *control)
{
	struct connection **link = &control->connections, *connection;

	while ((connection = *link)) {
		settle(connection);
		if (!connection->closed) {
			link = &connection->next;
			continue;
		}
		*link = connection->next;
		connection_free(connection);
		if (control->count-- == VSP_CONTROL_CLIENTS)
			hv_loop_rewatch(control->loop, &control->watch, EPOLLIN);
	}
}

void vsp_control_event(struct vsp_control *control, const char *what, const char *vm,
		       const char *disk, const char *detail)
{
	HV_AUTO(hv_json_free) struct hv_json *event = hv_json_object();
	char time[VSP_TIME_SIZE];

	vsp_time_text(time);
	hv_json_set_string(event, "time", time);
	hv_json_set_string(event, "event", what);
	hv_json_set_string(event, "vm", vm);
	hv_json_set_string(event, "disk", disk);
	hv_json_set_string(event, "detail", detail);
	for (struct connection *c = control->connections; c; c = c->next)
		if (c->events && vsp_roles_of(control->context->roles, &c->peer, vm) >= VSP_VIEWER)
			put_json(c, event);
}

/* Beginning and end. */

int vsp_control_new(struct hv_loop *loop, const char *path, struct vsp_control_context *context,
		    struct vsp_control **ret, struct hv_err *err)
{
	HV_AUTO(vsp_control_free) struct vsp_control *control = calloc(1, sizeof(*control));
	int rc;

	if (!control)
		return hv_fail(err, -ENOMEM, "not enough memory");
	control->loop = loop;
	control->context = context;
	control->listener.fd = -1;
	rc = vsp_listen_unix(path, &control->listener, err);
	if (rc)
		return rc;
	if (chmod(path, 0666))
		return hv_fail_errno(err, -errno, "%s: cannot open it for others", path);
	control->watch = (struct hv_watch){ .fd = control->listener.fd, .ready = acceptable };
	rc = hv_loop_watch(loop, &control->watch, EPOLLIN, err);
	if (rc)
		return rc;
	*ret = hv_steal(control);
	return 0;
}

void vsp_control_free(struct vsp_control *control)
{
	struct connection *connection;

	if (!control)
		return;
	while ((connection = control->connections)) {
		control->connections = connection->next;
		close_connection(connection);
		connection_free(connection);
	}
	hv_loop_unwatch(control->loop, &control->watch);
	vsp_listener_close(&control->listener);
	free(control);
}
