/*
 * The NBD server: exports, listening, and the lives of connections.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "hvcore/clock.h"
#include "hvcore/container.h"
#include "hvcore/timer.h"
#include "vsp-storage/nbd_connection.h"
#include "vsp-storage/nbd_wire.h"

#define SOCKET_BYTES (1 << 20) /* of the kernel's send buffer, if we may */
#define TICK_NS UINT64_C(5000000000)
#define ACCEPTS 16 /* at once */

struct listener {
	struct hv_watch watch;
	struct vsp_nbd *nbd;
	struct listener *next;
	bool rests; /* there are too many connections, or no descriptors */
};

struct vsp_nbd {
	struct hv_loop *loop;
	struct vsp_nbd *next_peer;
	struct vsp_buffers *buffers;
	const struct vsp_tls *tls;
	enum vsp_tls_mode tls_mode;
	struct nbd_export_entry *exports;
	struct listener *listeners;
	struct nbd_connection *connections; /* that it serves */
	unsigned connection_count;          /* that it has accepted */
	void (*empty)(void *arg);
	void *empty_arg;
	struct hv_timer timer;
};

struct hv_loop *nbd_loop(struct vsp_nbd *nbd)
{
	return nbd->loop;
}

/* TLS. */

void vsp_nbd_set_tls(struct vsp_nbd *nbd, const struct vsp_tls *tls, enum vsp_tls_mode mode)
{
	nbd->tls = mode == VSP_TLS_OFF ? NULL : tls;
	nbd->tls_mode = mode;
}

const struct vsp_tls *nbd_credentials(const struct vsp_nbd *nbd)
{
	return nbd->tls;
}

static bool is_unix(int fd)
{
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
	socklen_t length = sizeof(address);

	return getsockname(fd, (struct sockaddr *)&address, &length) == 0 &&
	       address.ss_family == AF_UNIX;
}

/* Of what comes over a network nobody knows who reads and writes it on the way. */
bool nbd_lacks_tls(const struct nbd_connection *connection)
{
	const struct vsp_nbd *nbd = connection->nbd;

	return nbd->tls && !connection->tls &&
	       (nbd->tls_mode == VSP_TLS_REQUIRED || !is_unix(connection->watch.fd));
}

struct vsp_buffers *nbd_buffers(struct vsp_nbd *nbd)
{
	return nbd->buffers;
}

unsigned vsp_nbd_connections(const struct vsp_nbd *nbd)
{
	return nbd->connection_count;
}

void vsp_nbd_on_empty(struct vsp_nbd *nbd, void (*empty)(void *arg), void *arg)
{
	nbd->empty = empty;
	nbd->empty_arg = arg;
}

void vsp_nbd_add_peer(struct vsp_nbd *nbd, struct vsp_nbd *peer)
{
	peer->next_peer = nbd->next_peer;
	nbd->next_peer = peer;
}

/* Exports. */

const struct nbd_export_entry *nbd_exports(const struct vsp_nbd *nbd)
{
	return nbd->exports;
}

static struct nbd_export_entry *find(struct vsp_nbd *nbd, const char *name, size_t length)
{
	for (struct nbd_export_entry *entry = nbd->exports; entry; entry = entry->next)
		if (strlen(entry->name) == length && !memcmp(entry->name, name, length))
			return entry;
	return NULL;
}

struct vsp_device *nbd_find_export(struct vsp_nbd *nbd, const char *name, size_t length)
{
	struct nbd_export_entry *entry = find(nbd, name, length);

	if (!entry && !length && nbd->exports && !nbd->exports->next)
		entry = nbd->exports;
	return entry ? entry->device : NULL;
}

/* A size is told when a client connects; the protocol has no message for a new one. */
static void resized(struct vsp_client *client)
{
	(void)client;
}

static void export_detach(struct vsp_client *client)
{
	struct nbd_export_entry *entry = (struct nbd_export_entry *)client;
	struct nbd_export_entry **link = &entry->nbd->exports;

	while (*link != entry)
		link = &(*link)->next;
	*link = entry->next;
	vsp_device_detach(entry->device, client);
	free(entry);
}

int vsp_nbd_export(struct vsp_nbd *nbd, const char *name, struct vsp_device *device,
		   struct hv_err *err)
{
	struct nbd_export_entry *entry, **link = &nbd->exports;
	size_t length = strlen(name);

	if (length > NBD_MAX_STRING)
		return hv_fail(err, -ENAMETOOLONG, "an export's name has at most %u bytes",
			       NBD_MAX_STRING);
	if (find(nbd, name, length))
		return hv_fail(err, -EEXIST, "there are two exports of the name \"%s\"", name);
	entry = calloc(1, sizeof(*entry) + length + 1);
	if (!entry)
		return hv_fail(err, -ENOMEM, "not enough memory for an export");
	entry->client = (struct vsp_client){ .resized = resized, .detach = export_detach };
	entry->nbd = nbd;
	entry->device = device;
	memcpy(entry->name, name, length);
	while (*link)
		link = &(*link)->next;
	*link = entry;
	vsp_device_attach(device, &entry->client);
	return 0;
}

/* Connections. */

void nbd_schedule(struct nbd_connection *connection)
{
	if (connection->turn_comes)
		return;
	connection->turn_comes = true;
	hv_loop_finish(connection->nbd->loop, &connection->turn, 0);
}

static void drop_replies(struct nbd_connection *connection)
{
	struct nbd_request *reply;

	while ((reply = connection->replies.head)) {
		connection->replies.head = reply->next;
		nbd_request_recycle(reply);
	}
	connection->replies.tail = NULL;
}

void nbd_close(struct nbd_connection *connection)
{
	if (connection->phase == NBD_CLOSED)
		return;
	connection->phase = NBD_CLOSED;
	hv_loop_unwatch(connection->nbd->loop, &connection->watch);
	close(connection->watch.fd);
	drop_replies(connection);
	if (connection->payload)
		nbd_request_recycle(connection->payload);
	connection->payload = NULL;
	if (connection->device)
		nbd_give_back(connection);
	nbd_schedule(connection);
}

static void rest(struct listener *listener, bool rests)
{
	if (listener->rests == rests)
		return;
	listener->rests = rests;
	hv_loop_rewatch(listener->nbd->loop, &listener->watch, rests ? 0 : EPOLLIN);
}

static void link_in(struct vsp_nbd *nbd, struct nbd_connection *connection)
{
	connection->nbd = nbd;
	connection->next = nbd->connections;
	connection->link = &nbd->connections;
	if (connection->next)
		connection->next->link = &connection->next;
	nbd->connections = connection;
}

static void link_out(struct nbd_connection *connection)
{
	*connection->link = connection->next;
	if (connection->next)
		connection->next->link = connection->link;
}

/* On the loop of the one that has accepted it. */
static void forget(struct hv_work *work, int result)
{
	struct nbd_connection *connection = hv_container_of(work, struct nbd_connection, passing);
	struct vsp_nbd *home = connection->home;

	(void)result;
	free(connection);
	for (struct listener *listener = home->listeners; listener; listener = listener->next)
		rest(listener, false);
	if (!--home->connection_count && home->empty)
		home->empty(home->empty_arg);
}

static void connection_free(struct nbd_connection *connection)
{
	if (connection->device)
		vsp_device_detach(connection->device, &connection->client);
	link_out(connection);
	nbd_requests_free(connection);
	nbd_tls_free(connection->tls);
	free(connection->rx);
	free(connection->out);
	connection->passing.done = forget;
	if (connection->nbd == connection->home)
		forget(&connection->passing, 0);
	else
		hv_loop_post(connection->home->loop, &connection->passing);
}

/* Moving: the connection has no request yet, and nothing on its way but input. */

static void begin_transfer(struct nbd_connection *connection)
{
	connection->device = connection->chosen;
	connection->phase = NBD_TRANSFER;
	vsp_device_attach(connection->device, &connection->client);
}

void nbd_serve(struct nbd_connection *connection, struct vsp_device *device)
{
	connection->chosen = device;
	if (device->loop == connection->nbd->loop)
		begin_transfer(connection);
	else
		connection->phase = NBD_MOVING;
}

static void moved(struct hv_work *work, int result)
{
	struct nbd_connection *connection = hv_container_of(work, struct nbd_connection, passing);

	(void)result;
	link_in(connection->nbd, connection);
	begin_transfer(connection);
	connection->events = 0;
	if (hv_loop_watch(connection->nbd->loop, &connection->watch, 0, NULL))
		nbd_close(connection);
	nbd_schedule(connection);
}

static void move(struct nbd_connection *connection)
{
	struct vsp_nbd *peer = connection->nbd;

	while (peer->loop != connection->chosen->loop)
		peer = peer->next_peer;
	hv_loop_unwatch(connection->nbd->loop, &connection->watch);
	link_out(connection);
	connection->nbd = peer;
	connection->passing.done = moved;
	hv_loop_post(peer->loop, &connection->passing);
}

static void watch_for(struct nbd_connection *connection)
{
	uint32_t events = (nbd_wants_input(connection) ? (uint32_t)EPOLLIN : 0) |
			  (nbd_has_output(connection) ? (uint32_t)EPOLLOUT : 0);

	if (events == connection->events)
		return;
	connection->events = events;
	hv_loop_rewatch(connection->nbd->loop, &connection->watch, events);
}

/* All that is to be done after something has been done for the connection. */
static void turn(struct hv_io *io, int result)
{
	struct nbd_connection *connection = hv_container_of(io, struct nbd_connection, turn);

	(void)result;
	connection->turn_comes = false;
	if (connection->phase != NBD_CLOSED && nbd_send(connection))
		nbd_close(connection);
	if (connection->phase == NBD_MOVING && !nbd_has_output(connection)) {
		move(connection);
		return;
	}
	if (connection->starts_tls && !nbd_has_output(connection))
		nbd_tls_begin(connection);
	if (connection->rx_start < connection->rx_end)
		nbd_take_input(connection);
	if (connection->tls && nbd_tls_has_input(connection->tls) && nbd_wants_input(connection))
		nbd_receive(connection);
	if (connection->phase == NBD_DRAINING && !connection->requests &&
	    !nbd_has_output(connection))
		nbd_close(connection);
	if (connection->phase != NBD_CLOSED)
		watch_for(connection);
	else if (!connection->requests && !connection->turn_comes)
		connection_free(connection);
}

/* What came before the end is read first. */
static void ready(struct hv_watch *watch, uint32_t events)
{
	struct nbd_connection *connection = (struct nbd_connection *)watch;

	if (events & EPOLLIN && nbd_wants_input(connection))
		nbd_receive(connection);
	else if (events & (EPOLLHUP | EPOLLERR))
		nbd_close(connection);
	if (events & EPOLLOUT)
		nbd_schedule(connection);
	if (connection->phase != NBD_CLOSED)
		watch_for(connection);
}

static void connection_detach(struct vsp_client *client)
{
	struct nbd_connection *connection = hv_container_of(client, struct nbd_connection, client);

	if (connection->phase != NBD_TRANSFER)
		return;
	if (connection->payload)
		nbd_request_recycle(connection->payload);
	connection->payload = NULL;
	connection->phase = NBD_DRAINING;
	nbd_give_back(connection);
	nbd_schedule(connection);
}

static void connection_kept(struct vsp_client *client)
{
	struct nbd_connection *connection = hv_container_of(client, struct nbd_connection, client);

	if (connection->phase > NBD_TRANSFER)
		nbd_give_back(connection);
}

static void tune(int fd)
{
	int on = 1, bytes = SOCKET_BYTES;

	/* Of a Unix socket the first two fail, which is fine. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static struct nbd_connection *connection_new(struct vsp_nbd *nbd, int fd)
{
	struct nbd_connection *connection = calloc(1, sizeof(*connection));

	if (!connection)
		return NULL;
	connection->rx = malloc(NBD_RX_BYTES);
	if (!connection->rx) {
		free(connection);
		return NULL;
	}
	connection->watch = (struct hv_watch){ .fd = fd, .ready = ready };
	connection->client = (struct vsp_client){ .resized = resized,
						  .detach = connection_detach,
						  .kept = connection_kept };
	connection->turn.done = turn;
	connection->nbd = connection->home = nbd;
	connection->since_ns = hv_now_ns();
	return connection;
}

int vsp_nbd_connect(struct vsp_nbd *nbd, int fd, struct hv_err *err)
{
	struct nbd_connection *connection = connection_new(nbd, fd);
	int rc;

	if (!connection) {
		close(fd);
		return hv_fail(err, -ENOMEM, "not enough memory for a connection");
	}
	rc = hv_loop_watch(nbd->loop, &connection->watch, 0, err);
	if (rc) {
		close(fd);
		free(connection->rx);
		free(connection);
		return rc;
	}
	tune(fd);
	link_in(nbd, connection);
	nbd->connection_count++;
	nbd_greet(connection);
	return 0;
}

/* Who takes too long to begin. */

void nbd_tick(struct vsp_nbd *nbd, uint64_t now)
{
	uint64_t limit = UINT64_C(1000000000) * VSP_NBD_HANDSHAKE_SECONDS;

	for (struct nbd_connection *connection = nbd->connections; connection;
	     connection = connection->next)
		if (connection->phase < NBD_TRANSFER && now > connection->since_ns + limit)
			nbd_close(connection);
	/* A listener may rest for want of descriptors, which others may have given back. */
	for (struct listener *listener = nbd->listeners; listener; listener = listener->next)
		rest(listener, nbd->connection_count >= VSP_NBD_MAX_CONNECTIONS);
}

static void tick(struct hv_timer *timer)
{
	nbd_tick(hv_container_of(timer, struct vsp_nbd, timer), hv_now_ns());
	hv_timer_set(timer, TICK_NS);
}

/* Listening. */

static void acceptable(struct hv_watch *watch, uint32_t events)
{
	struct listener *listener = (struct listener *)watch;
	struct vsp_nbd *nbd = listener->nbd;

	(void)events;
	for (int i = 0; i < ACCEPTS && nbd->connection_count < VSP_NBD_MAX_CONNECTIONS; i++) {
		int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		/* Without descriptors or memory we would be woken again at once. */
		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
			rest(listener, true);
		if (fd < 0)
			return;
		vsp_nbd_connect(nbd, fd, NULL);
	}
	rest(listener, nbd->connection_count >= VSP_NBD_MAX_CONNECTIONS);
}

int vsp_nbd_listen(struct vsp_nbd *nbd, int fd, struct hv_err *err)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	int rc;

	if (!listener)
		return hv_fail(err, -ENOMEM, "not enough memory to listen");
	listener->watch = (struct hv_watch){ .fd = fd, .ready = acceptable };
	listener->nbd = nbd;
	rc = hv_loop_watch(nbd->loop, &listener->watch, EPOLLIN, err);
	if (rc) {
		free(listener);
		return rc;
	}
	listener->next = nbd->listeners;
	nbd->listeners = listener;
	return 0;
}

/* Beginning and end. */

int vsp_nbd_new(struct hv_loop *loop, struct vsp_nbd **ret, struct hv_err *err)
{
	HV_AUTO(vsp_nbd_free) struct vsp_nbd *nbd = calloc(1, sizeof(*nbd));
	int rc;

	if (!nbd)
		return hv_fail(err, -ENOMEM, "not enough memory for a server");
	nbd->loop = loop;
	nbd->buffers = vsp_buffers_new();
	if (!nbd->buffers)
		return hv_fail(err, -ENOMEM, "not enough memory for a server");
	rc = hv_timer_open(&nbd->timer, loop, tick, err);
	if (rc)
		return rc;
	hv_timer_set(&nbd->timer, TICK_NS);
	*ret = hv_steal(nbd);
	return 0;
}

void vsp_nbd_stop(struct vsp_nbd *nbd)
{
	struct listener *listener;

	while ((listener = nbd->listeners)) {
		nbd->listeners = listener->next;
		hv_loop_unwatch(nbd->loop, &listener->watch);
		free(listener);
	}
	for (struct nbd_connection *connection = nbd->connections; connection;
	     connection = connection->next)
		if (connection->phase < NBD_TRANSFER)
			nbd_close(connection);
}

void vsp_nbd_cut(struct vsp_nbd *nbd)
{
	for (struct nbd_connection *connection = nbd->connections; connection;
	     connection = connection->next)
		nbd_close(connection);
}

void vsp_nbd_free(struct vsp_nbd *nbd)
{
	if (!nbd)
		return;
	vsp_nbd_stop(nbd);
	hv_timer_close(&nbd->timer);
	vsp_buffers_free(nbd->buffers);
	free(nbd);
}
