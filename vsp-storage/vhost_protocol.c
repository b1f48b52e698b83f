/*
 * What each message does. The table says all that can be checked without knowing the session: sizes,
 * how many descriptors, which protocol feature it belongs to, and whether rings have to be at rest.
 *
 * A message that fails has had no effect. With REPLY_ACK the front end is told so and decides;
 * without it, it could not know, and loses its connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hvcore/log.h"
#include "vsp-storage/vhost_session.h"

#define bit(feature) (UINT64_C(1) << (feature))

#define PROTOCOL_FEATURES                                                        \
	(bit(VHOST_PROTOCOL_MQ) | bit(VHOST_PROTOCOL_REPLY_ACK) |                \
	 bit(VHOST_PROTOCOL_BACKEND_REQ) | bit(VHOST_PROTOCOL_CONFIG) |          \
	 bit(VHOST_PROTOCOL_INFLIGHT_SHMFD) | bit(VHOST_PROTOCOL_RESET_DEVICE) | \
	 bit(VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS))

static uint64_t offered_features(const struct vsp_session *session)
{
	return vsp_blk_features(session->blk.device) | bit(VHOST_F_PROTOCOL_FEATURES);
}

static int reply(struct vsp_session *session, const void *payload, uint32_t size, int fd,
		 struct hv_err *err)
{
	return vsp_message_send(session->socket.fd, session->message.header.request, VHOST_REPLY,
				payload, size, fd, err);
}

static int reply_number(struct vsp_session *session, uint64_t number, struct hv_err *err)
{
	return reply(session, &number, sizeof(number), -1, err);
}

/* NULL with a sentence when there is none. */
static struct vsp_vhost_ring *find_ring(struct vsp_session *session, uint64_t index,
					struct hv_err *err)
{
	if (index >= VSP_VHOST_RINGS_MAX) {
		hv_fail(err, -EINVAL, "there is no queue %llu", (unsigned long long)index);
		return NULL;
	}
	if (index >= session->ring_count)
		session->ring_count = (unsigned)index + 1;
	return &session->rings[index];
}

static bool any_started(const struct vsp_session *session)
{
	for (unsigned i = 0; i < session->ring_count; i++)
		if (session->rings[i].started)
			return true;
	return false;
}

/* Features. */

static int get_features(struct vsp_session *session, union vhost_payload *payload,
			struct hv_err *err)
{
	(void)payload;
	return reply_number(session, offered_features(session), err);
}

static int set_features(struct vsp_session *session, union vhost_payload *payload,
			struct hv_err *err)
{
	if (payload->number & ~offered_features(session))
		return hv_fail(err, -EINVAL, "features %#llx are not offered",
			       (unsigned long long)(payload->number & ~offered_features(session)));
	session->blk.features = payload->number;
	return 0;
}

static int get_protocol_features(struct vsp_session *session, union vhost_payload *payload,
				 struct hv_err *err)
{
	(void)payload;
	return reply_number(session, PROTOCOL_FEATURES, err);
}

static int set_protocol_features(struct vsp_session *session, union vhost_payload *payload,
				 struct hv_err *err)
{
	if (payload->number & ~PROTOCOL_FEATURES)
		return hv_fail(err, -EINVAL, "protocol features %#llx are not offered",
			       (unsigned long long)(payload->number & ~PROTOCOL_FEATURES));
	session->protocol_features = payload->number;
	return 0;
}

static int get_queue_num(struct vsp_session *session, union vhost_payload *payload,
			 struct hv_err *err)
{
	(void)payload;
	return reply_number(session, VSP_VHOST_RINGS_MAX, err);
}

/* One front end to a connection: there is nobody to take it from. */
static int set_owner(struct vsp_session *session, union vhost_payload *payload, struct hv_err *err)
{
	(void)session;
	(void)payload;
	(void)err;
	return 0;
}

static int reset_device(struct vsp_session *session, union vhost_payload *payload,
			struct hv_err *err)
{
	(void)payload;
	(void)err;
	for (unsigned i = 0; i < session->ring_count; i++) {
		vsp_ring_stop(&session->rings[i]);
		session->rings[i].enabled = false;
	}
	session->blk.writeback = true;
	return 0;
}

static int set_backend_fd(struct vsp_session *session, union vhost_payload *payload,
			  struct hv_err *err)
{
	(void)payload;
	(void)err;
	if (session->backend_fd >= 0)
		close(session->backend_fd);
	session->backend_fd = vsp_message_take_fd(&session->message, 0);
	return 0;
}

/* Memory. */

static int add_region(struct vsp_session *session, struct vsp_guest_memory *memory,
		      const struct vhost_region *region, unsigned fd_index, struct hv_err *err)
{
	return vsp_guest_memory_add(memory, region->guest, region->user, region->size,
				    session->message.fds[fd_index], region->fd_offset, err);
}

static void move_rings(struct vsp_session *session)
{
	for (unsigned i = 0; i < session->ring_count; i++)
		vsp_ring_move(&session->rings[i]);
}

static int set_mem_table(struct vsp_session *session, union vhost_payload *payload,
			 struct hv_err *err)
{
	const struct vhost_mem_table *table = &payload->table;
	struct vsp_guest_memory memory = { 0 };
	uint32_t size = session->message.header.size;
	int rc = 0;

	if (table->count > VHOST_TABLE_REGIONS_MAX || table->count != session->message.fd_count ||
	    size < offsetof(struct vhost_mem_table, regions) +
			    table->count * sizeof(struct vhost_region))
		return hv_fail(err, -EINVAL, "a table of %u regions in %u bytes has %u descriptors",
			       table->count, size, session->message.fd_count);
	for (unsigned i = 0; i < table->count && rc == 0; i++)
		rc = add_region(session, &memory, &table->regions[i], i, err);
	if (rc) {
		vsp_guest_memory_done(&memory);
		return rc;
	}
	vsp_guest_memory_done(&session->memory);
	session->memory = memory;
	move_rings(session);
	return 0;
}

static int get_max_mem_slots(struct vsp_session *session, union vhost_payload *payload,
			     struct hv_err *err)
{
	(void)payload;
	return reply_number(session, VSP_GUEST_REGIONS_MAX, err);
}

static int add_mem_region(struct vsp_session *session, union vhost_payload *payload,
			  struct hv_err *err)
{
	return add_region(session, &session->memory, &payload->one.region, 0, err);
}

/* A ring in what goes is broken by it. */
static int remove_mem_region(struct vsp_session *session, union vhost_payload *payload,
			     struct hv_err *err)
{
	const struct vhost_region *region = &payload->one.region;
	int rc = vsp_guest_memory_remove(&session->memory, region->guest, region->user,
					 region->size, err);

	if (rc == 0)
		move_rings(session);
	return rc;
}

/* Rings. */

static int set_vring_num(struct vsp_session *session, union vhost_payload *payload,
			 struct hv_err *err)
{
	struct vsp_vhost_ring *ring = find_ring(session, payload->ring.index, err);

	if (!ring)
		return -EINVAL;
	if (ring->started)
		return hv_fail(err, -EBUSY, "queue %u is running", payload->ring.index);
	if (payload->ring.number > VSP_RING_SIZE_MAX || !hv_is_power_of_two(payload->ring.number))
		return hv_fail(err, -EINVAL, "queue %u cannot have %u entries", payload->ring.index,
			       payload->ring.number);
	ring->setup.size = (uint16_t)payload->ring.number;
	return 0;
}

static int set_vring_base(struct vsp_session *session, union vhost_payload *payload,
			  struct hv_err *err)
{
	struct vsp_vhost_ring *ring = find_ring(session, payload->ring.index, err);

	if (!ring)
		return -EINVAL;
	if (ring->started || payload->ring.number > UINT16_MAX)
		return hv_fail(err, -EINVAL, "queue %u cannot go on at %u", payload->ring.index,
			       payload->ring.number);
	ring->setup.base = (uint16_t)payload->ring.number;
	return 0;
}

static int get_vring_base(struct vsp_session *session, union vhost_payload *payload,
			  struct hv_err *err)
{
	struct vhost_ring_number answer = { .index = payload->ring.index };
	struct vsp_vhost_ring *ring = find_ring(session, payload->ring.index, err);

	if (!ring)
		return -EINVAL;
	vsp_ring_stop(ring);
	answer.number = ring->setup.base;
	return reply(session, &answer, sizeof(answer), -1, err);
}

static int set_vring_addr(struct vsp_session *session, union vhost_payload *payload,
			  struct hv_err *err)
{
	const struct vhost_ring_addresses *addresses = &payload->addresses;
	struct vsp_vhost_ring *ring = find_ring(session, addresses->index, err);

	if (!ring)
		return -EINVAL;
	if (addresses->flags)
		return hv_fail(err, -EINVAL, "queue %u: dirty logging was not agreed upon",
			       addresses->index);
	ring->setup.descriptors = addresses->descriptors;
	ring->setup.avail = addresses->avail;
	ring->setup.used = addresses->used;
	ring->has_addresses = true;
	vsp_ring_move(ring);
	return 0;
}

static int set_vring_enable(struct vsp_session *session, union vhost_payload *payload,
			    struct hv_err *err)
{
	struct vsp_vhost_ring *ring = find_ring(session, payload->ring.index, err);

	if (!ring)
		return -EINVAL;
	ring->enabled = payload->ring.number != 0;
	vsp_ring_start(ring);
	return 0;
}

/* Descriptors of rings: the low byte is the ring, one bit says that there is none. */

static int take_ring_fd(struct vsp_session *session, uint64_t number, struct vsp_vhost_ring **ring,
			int *fd, struct hv_err *err)
{
	bool none = number & VHOST_RING_NO_FD;

	*ring = find_ring(session, number & VHOST_RING_INDEX_MASK, err);
	if (!*ring)
		return -EINVAL;
	if (none == (session->message.fd_count == 1))
		return hv_fail(err, -EINVAL, "message %u for queue %u has %u descriptors",
			       session->message.header.request, vsp_ring_index(*ring),
			       session->message.fd_count);
	*fd = vsp_message_take_fd(&session->message, 0);
	return 0;
}

static int set_vring_kick(struct vsp_session *session, union vhost_payload *payload,
			  struct hv_err *err)
{
	struct vsp_vhost_ring *ring = NULL;
	int fd = -1, rc = take_ring_fd(session, payload->number, &ring, &fd, err);

	if (rc)
		return rc;
	if (fd < 0)
		return hv_fail(err, -ENOTSUP, "queue %u would have to be polled",
			       vsp_ring_index(ring));
	rc = vsp_ring_set_kick(ring, fd, err);
	if (rc == 0)
		vsp_ring_start(ring);
	return rc;
}

/*
 * What we write to is an eventfd, or something else that is neither a file, a pipe nor a socket. It
 * must not block us when its counter is full.
 */
static int make_signal(int fd, struct hv_err *err)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (fstat(fd, &st) || st.st_mode & S_IFMT || flags < 0 ||
	    fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return hv_fail(err, -EINVAL, "what should be an eventfd is none");
	return 0;
}

static int replace_signal(struct vsp_session *session, uint64_t number, bool call,
			  struct hv_err *err)
{
	struct vsp_vhost_ring *ring = NULL;
	int fd = -1, *place, rc = take_ring_fd(session, number, &ring, &fd, err);

	if (rc == 0 && fd >= 0)
		rc = make_signal(fd, err);
	if (rc) {
		if (fd >= 0)
			close(fd);
		return rc;
	}
	place = call ? &ring->call_fd : &ring->err_fd;
	if (*place >= 0)
		close(*place);
	*place = fd;
	return 0;
}

/* What we signalled to the old one may have been lost: once more costs nothing. */
static int set_vring_call(struct vsp_session *session, union vhost_payload *payload,
			  struct hv_err *err)
{
	int rc = replace_signal(session, payload->number, true, err);

	if (rc == 0)
		vsp_ring_signal(&session->rings[payload->number & VHOST_RING_INDEX_MASK]);
	return rc;
}

static int set_vring_err(struct vsp_session *session, union vhost_payload *payload,
			 struct hv_err *err)
{
	return replace_signal(session, payload->number, false, err);
}

/* The config space. */

static bool config_fits(const struct vsp_session *session, const struct vhost_config *config)
{
	return hv_range_inside(config->offset, config->size, VHOST_CONFIG_MAX) &&
	       session->message.header.size >= VHOST_CONFIG_HEAD + config->size;
}

/* A size of 0 says that it cannot be had. */
static int get_config(struct vsp_session *session, union vhost_payload *payload, struct hv_err *err)
{
	struct vhost_config answer = { .offset = payload->config.offset,
				       .size = payload->config.size,
				       .flags = payload->config.flags };

	if (!config_fits(session, &payload->config))
		return reply(session, NULL, 0, -1, err);
	vsp_blk_get_config(&session->blk, VSP_VHOST_RINGS_MAX, answer.bytes, answer.offset,
			   answer.size);
	return reply(session, &answer, (uint32_t)VHOST_CONFIG_HEAD + answer.size, -1, err);
}

static int set_config(struct vsp_session *session, union vhost_payload *payload, struct hv_err *err)
{
	const struct vhost_config *config = &payload->config;

	if (!config_fits(session, config) || config->size == 0)
		return hv_fail(err, -EINVAL, "%u bytes at %u are not in the config space",
			       config->size, config->offset);
	return vsp_blk_set_config(&session->blk, config->bytes, config->offset, config->size, err);
}

/* In-flight tracking. */

static int get_inflight_fd(struct vsp_session *session, union vhost_payload *payload,
			   struct hv_err *err)
{
	struct vhost_inflight answer = payload->inflight;
	HV_AUTO(close) int fd = -1;

	if (answer.ring_count == 0 || answer.ring_count > VSP_VHOST_RINGS_MAX ||
	    answer.ring_size == 0 || answer.ring_size > VSP_RING_SIZE_MAX)
		return hv_fail(err, -EINVAL,
			       "an in-flight region of %u rings of %u is not possible",
			       answer.ring_count, answer.ring_size);
	fd = vsp_inflight_create(answer.ring_count, answer.ring_size, err);
	if (fd < 0)
		return fd;
	answer.length = vsp_inflight_bytes(answer.ring_count, answer.ring_size);
	answer.offset = 0;
	return reply(session, &answer, session->message.header.size, fd, err);
}

static int set_inflight_fd(struct vsp_session *session, union vhost_payload *payload,
			   struct hv_err *err)
{
	const struct vhost_inflight *ask = &payload->inflight;
	struct vsp_inflight inflight;
	int rc;

	if (any_started(session))
		return hv_fail(err, -EBUSY, "an in-flight region comes while queues are running");
	rc = vsp_inflight_open(session->message.fds[0], ask->offset, ask->length, ask->ring_count,
			       ask->ring_size, &inflight, err);
	if (rc)
		return rc;
	vsp_inflight_close(&session->inflight);
	session->inflight = inflight;
	return 0;
}

/* The table. */

#define NO_FEATURE (-1)

struct kind {
	const char *name;
	uint16_t min_size, max_size;
	uint8_t min_fds, max_fds;
	int8_t feature; /* of the protocol, without which it is not allowed */
	bool replies;   /* by itself */
	bool drains;    /* waits until nothing is in flight */
	int (*handle)(struct vsp_session *session, union vhost_payload *payload,
		      struct hv_err *err);
};

#define U64 8, 8
#define RING 8, 8
#define NOTHING 0, 0
#define TABLE 8, sizeof(struct vhost_mem_table)
#define ONE_REGION sizeof(struct vhost_one_region), sizeof(struct vhost_one_region)
#define ADDRESSES sizeof(struct vhost_ring_addresses), sizeof(struct vhost_ring_addresses)
#define CONFIG VHOST_CONFIG_HEAD, sizeof(struct vhost_config)
#define INFLIGHT VHOST_INFLIGHT_MIN, sizeof(struct vhost_inflight)

/* clang-format off */
static const struct kind kinds[] = {
	/* sizes, descriptors, protocol feature, replies, drains */
	[VHOST_GET_FEATURES] = { "GET_FEATURES", NOTHING, 0, 0, NO_FEATURE, true, false, get_features },
	[VHOST_SET_FEATURES] = { "SET_FEATURES", U64, 0, 0, NO_FEATURE, false, true, set_features },
	[VHOST_SET_OWNER] = { "SET_OWNER", NOTHING, 0, 0, NO_FEATURE, false, false, set_owner },
	[VHOST_RESET_OWNER] = { "RESET_OWNER", NOTHING, 0, 0, NO_FEATURE, false, true, reset_device },
	[VHOST_SET_MEM_TABLE] = { "SET_MEM_TABLE", TABLE, 0, 8, NO_FEATURE, false, true, set_mem_table },
	[VHOST_SET_VRING_NUM] = { "SET_VRING_NUM", RING, 0, 0, NO_FEATURE, false, false, set_vring_num },
	[VHOST_SET_VRING_ADDR] = { "SET_VRING_ADDR", ADDRESSES, 0, 0, NO_FEATURE, false, true, set_vring_addr },
	[VHOST_SET_VRING_BASE] = { "SET_VRING_BASE", RING, 0, 0, NO_FEATURE, false, false, set_vring_base },
	[VHOST_GET_VRING_BASE] = { "GET_VRING_BASE", RING, 0, 0, NO_FEATURE, true, true, get_vring_base },
	[VHOST_SET_VRING_KICK] = { "SET_VRING_KICK", U64, 0, 1, NO_FEATURE, false, false, set_vring_kick },
	[VHOST_SET_VRING_CALL] = { "SET_VRING_CALL", U64, 0, 1, NO_FEATURE, false, false, set_vring_call },
	[VHOST_SET_VRING_ERR] = { "SET_VRING_ERR", U64, 0, 1, NO_FEATURE, false, false, set_vring_err },
	[VHOST_GET_PROTOCOL_FEATURES] = { "GET_PROTOCOL_FEATURES", NOTHING, 0, 0, NO_FEATURE, true, false, get_protocol_features },
	[VHOST_SET_PROTOCOL_FEATURES] = { "SET_PROTOCOL_FEATURES", U64, 0, 0, NO_FEATURE, false, false, set_protocol_features },
	[VHOST_GET_QUEUE_NUM] = { "GET_QUEUE_NUM", NOTHING, 0, 0, VHOST_PROTOCOL_MQ, true, false, get_queue_num },
	[VHOST_SET_VRING_ENABLE] = { "SET_VRING_ENABLE", RING, 0, 0, NO_FEATURE, false, false, set_vring_enable },
	[VHOST_SET_BACKEND_REQ_FD] = { "SET_BACKEND_REQ_FD", NOTHING, 1, 1, VHOST_PROTOCOL_BACKEND_REQ, false, false, set_backend_fd },
	[VHOST_GET_CONFIG] = { "GET_CONFIG", CONFIG, 0, 0, VHOST_PROTOCOL_CONFIG, true, false, get_config },
	[VHOST_SET_CONFIG] = { "SET_CONFIG", CONFIG, 0, 0, VHOST_PROTOCOL_CONFIG, false, false, set_config },
	[VHOST_GET_INFLIGHT_FD] = { "GET_INFLIGHT_FD", INFLIGHT, 0, 0, VHOST_PROTOCOL_INFLIGHT_SHMFD, true, false, get_inflight_fd },
	[VHOST_SET_INFLIGHT_FD] = { "SET_INFLIGHT_FD", INFLIGHT, 1, 1, VHOST_PROTOCOL_INFLIGHT_SHMFD, false, false, set_inflight_fd },
	[VHOST_RESET_DEVICE] = { "RESET_DEVICE", NOTHING, 0, 0, VHOST_PROTOCOL_RESET_DEVICE, false, true, reset_device },
	[VHOST_GET_MAX_MEM_SLOTS] = { "GET_MAX_MEM_SLOTS", NOTHING, 0, 0, VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS, true, false, get_max_mem_slots },
	[VHOST_ADD_MEM_REG] = { "ADD_MEM_REG", ONE_REGION, 1, 1, VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS, false, false, add_mem_region },
	[VHOST_REM_MEM_REG] = { "REM_MEM_REG", ONE_REGION, 0, 1, VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS, false, true, remove_mem_region },
};
/* clang-format on */

static const struct kind *kind_of(const struct vsp_session *session)
{
	uint32_t request = session->message.header.request;

	if (request >= sizeof(kinds) / sizeof(kinds[0]) || !kinds[request].handle)
		return NULL;
	return &kinds[request];
}

static int check(const struct vsp_session *session, const struct kind *kind, struct hv_err *err)
{
	const struct vsp_message *message = &session->message;

	if (!kind)
		return hv_fail(err, -ENOTSUP, "message %u is unknown", message->header.request);
	if (kind->feature != NO_FEATURE && !(session->protocol_features >> kind->feature & 1))
		return hv_fail(err, -EPROTO, "%s belongs to a feature that was not agreed upon",
			       kind->name);
	if (message->header.size < kind->min_size || message->header.size > kind->max_size)
		return hv_fail(err, -EPROTO, "%s has a size of %u bytes", kind->name,
			       message->header.size);
	if (message->fd_count < kind->min_fds || message->fd_count > kind->max_fds)
		return hv_fail(err, -EPROTO, "%s has %u descriptors", kind->name,
			       message->fd_count);
	return 0;
}

bool vsp_session_must_drain(const struct vsp_session *session)
{
	const struct kind *kind = kind_of(session);

	return kind && kind->drains;
}

int vsp_session_handle(struct vsp_session *session, struct hv_err *err)
{
	const struct kind *kind = kind_of(session);
	bool acknowledged = session->message.header.flags & VHOST_NEED_REPLY &&
			    session->protocol_features >> VHOST_PROTOCOL_REPLY_ACK & 1;
	int rc = check(session, kind, err);

	if (rc == 0)
		rc = kind->handle(session, &session->message.payload, err);
	if (!acknowledged || (kind && kind->replies))
		return rc;
	if (rc)
		hv_log(HV_LOG_WARN, "%s: %s", session->name, err->sentence);
	hv_err_clear(err);
	return reply_number(session, rc != 0, err);
}
