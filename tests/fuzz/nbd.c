/*
 * Fuzz target: an NBD client that may say anything, to a server over a small disk in memory that
 * answers late and in another order.
 *
 * The first byte: how much the client says before it listens (lower 2 bits), how far it has come
 * by itself (next 2: nothing, simple, structured, extended), bit 4: a read-only disk, bit 5: it
 * vanishes without having listened to anything, before the disk has answered. What follows is what
 * it says. Whatever that is, replies have the form that was agreed on, and nothing is left when it
 * has gone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "hvcore/iov.h"
#include "tests/fuzz/harness/fuzz.h"
#include "vsp-storage/nbd.h"
#include "vsp-storage/nbd_wire.h"

#define DISK_BYTES (96u << 10)
#define HELD 64

enum form { RAW, SIMPLE, STRUCTURED, EXTENDED };

static uint8_t contents[DISK_BYTES];
static struct hv_io *held[HELD];
static unsigned held_count;
static bool holding; /* the disk does not answer for now */

/* The disk. The first half is data, the second zero until it is written. */

static void carry_out(struct hv_io *io)
{
	fuzz_assert(io->op == HV_FLUSH || (io->offset <= DISK_BYTES && io->length <= DISK_BYTES &&
					   io->offset + io->length <= DISK_BYTES),
		    "a request outside the disk reached it");
	if (io->op == HV_READ)
		hv_iov_scatter(io->iov, io->iov_count, 0, contents + io->offset, io->length);
	else if (io->op == HV_WRITE)
		hv_iov_gather(io->iov, io->iov_count, 0, contents + io->offset, io->length);
	else if (io->op != HV_FLUSH)
		memset(contents + io->offset, 0, io->length);
	hv_loop_finish(fuzz_loop(), io, 0);
}

static void submit(struct hv_disk *disk, struct hv_io *io)
{
	(void)disk;
	if (held_count < HELD)
		held[held_count++] = io;
	else
		carry_out(io);
}

/* The latest first. */
static void release(void)
{
	while (held_count && !holding)
		carry_out(held[--held_count]);
}

static int extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
		  struct hv_extent *ret, struct hv_err *err)
{
	(void)disk;
	(void)flags;
	(void)err;
	fuzz_assert(offset % HV_SECTOR_SIZE == 0 && length && offset + length <= DISK_BYTES,
		    "an extent outside the disk was asked for");
	*ret = (struct hv_extent){ .offset = offset,
				   .length = HV_SECTOR_SIZE,
				   .state = offset < DISK_BYTES / 2 ? HV_EXTENT_DATA :
								      HV_EXTENT_ZERO,
				   .depth = offset % 4096 / 1024,
				   .host_offset = HV_NO_HOST_OFFSET };
	return 0;
}

static void close_disk(struct hv_disk *disk)
{
	free(disk);
}

static const struct hv_disk_ops disk_ops = {
	.format = "fuzz", .submit = submit, .extent = extent, .close = close_disk
};

static struct vsp_device *new_device(bool read_only)
{
	struct vsp_device_options options = { .read_only = read_only,
					      .discard = true,
					      .fast_zero = true };
	struct hv_disk *disk = calloc(1, sizeof(*disk));
	struct vsp_device *device;

	*disk = (struct hv_disk){ .ops = &disk_ops,
				  .loop = fuzz_loop(),
				  .path = "disk",
				  .size_bytes = DISK_BYTES,
				  .writable = !read_only };
	fuzz_assert(vsp_device_new(disk, &options, &device, NULL) == 0, "no device");
	return device;
}

/* The client. */

struct client {
	int fd;
	enum form form;
	bool gone; /* the server has hung up */
	uint8_t *got;
	size_t got_bytes, room;
};

static void turn(void)
{
	hv_loop_serve(fuzz_loop(), 0);
	release();
	hv_loop_serve(fuzz_loop(), 0);
	hv_loop_serve(fuzz_loop(), 0);
}

static void listen_to(struct client *client)
{
	for (;;) {
		ssize_t n;

		if (client->room - client->got_bytes < 65536) {
			client->room = client->room * 2 + 131072;
			client->got = realloc(client->got, client->room);
		}
		n = recv(client->fd, client->got + client->got_bytes,
			 client->room - client->got_bytes, 0);
		if (n > 0) {
			client->got_bytes += (size_t)n;
			turn();
			continue;
		}
		if (n == 0 || errno != EAGAIN)
			client->gone = true;
		return;
	}
}

static void say(struct client *client, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	for (unsigned idle = 0; length && idle < 4 && !client->gone;) {
		ssize_t n = send(client->fd, at, length, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			client->gone = true;
		if (n > 0) {
			at += n;
			length -= (size_t)n;
			continue;
		}
		turn();
		idle++;
	}
	turn();
}

static void say_option(struct client *client, uint32_t option, const void *data, uint32_t length)
{
	struct nbd_option header = { hv_be64_make(NBD_OPTION_MAGIC), hv_be32_make(option),
				     hv_be32_make(length) };

	say(client, &header, sizeof(header));
	say(client, data, length);
	listen_to(client);
}

/* As far as the input wants it to have come. Then nothing has been got. */
static void come_in(struct client *client)
{
	static const uint8_t flags[4] = { 0, 0, 0, 3 }, any[6] = { 0 };
	static const char contexts[] =
		"\0\0\0\0\0\0\0\2\0\0\0\17base:allocation\0\0\0\13hvkit:depth";

	turn();
	if (client->form == RAW)
		return;
	say(client, flags, sizeof(flags));
	if (client->form >= STRUCTURED) {
		say_option(client,
			   client->form == EXTENDED ? NBD_OPT_EXTENDED_HEADERS :
						      NBD_OPT_STRUCTURED_REPLY,
			   NULL, 0);
		say_option(client, NBD_OPT_SET_META_CONTEXT, contexts, sizeof(contexts) - 1);
	}
	say_option(client, NBD_OPT_GO, any, sizeof(any));
	fuzz_assert(!client->gone, "an honest client was cut off");
	client->got_bytes = 0;
}

/* Size of the reply at the beginning of bytes, or 0 when it is not all there. */
static size_t judge_reply(enum form form, const uint8_t *bytes, size_t length)
{
	struct nbd_extended_chunk chunk;
	size_t header = form == EXTENDED ? sizeof(chunk) : sizeof(struct nbd_chunk);
	uint64_t payload;

	memset(&chunk, 0, sizeof(chunk));
	memcpy(&chunk, bytes, length < sizeof(chunk) ? length : sizeof(chunk));
	if (form == STRUCTURED && length >= sizeof(struct nbd_simple_reply) &&
	    hv_be32_get(chunk.magic) == NBD_SIMPLE_REPLY_MAGIC)
		return sizeof(struct nbd_simple_reply);
	if (length < header)
		return 0;
	fuzz_assert(hv_be32_get(chunk.magic) == (form == EXTENDED ? NBD_EXTENDED_REPLY_MAGIC :
								    NBD_STRUCTURED_REPLY_MAGIC),
		    "a reply of another form");
	if (form == EXTENDED) {
		payload = hv_be64_get(chunk.length);
	} else {
		struct nbd_chunk compact;

		memcpy(&compact, bytes, sizeof(compact));
		payload = hv_be32_get(compact.length);
	}
	fuzz_assert(payload <= DISK_BYTES + 8, "a chunk of %llu bytes",
		    (unsigned long long)payload);
	return length - header < payload ? 0 : header + payload;
}

static void judge_replies(const struct client *client)
{
	size_t at = 0, size;

	if (client->form < STRUCTURED)
		return;
	while (at < client->got_bytes &&
	       (size = judge_reply(client->form, client->got + at, client->got_bytes - at)))
		at += size;
	fuzz_assert(at == client->got_bytes || client->gone, "a reply was not sent to its end");
}

static void converse(struct client *client, const uint8_t *data, size_t size, unsigned at_once,
		     bool listens)
{
	while (size) {
		size_t n = size < at_once ? size : at_once;

		say(client, data, n);
		if (listens)
			listen_to(client);
		data += n;
		size -= n;
	}
	if (!listens)
		return;
	for (int i = 0; i < 4; i++) {
		turn();
		listen_to(client);
	}
	judge_replies(client);
}

static void end(struct vsp_nbd *nbd, struct vsp_device *device)
{
	vsp_device_dismiss(device);
	for (int i = 0; i < 1000 && (vsp_nbd_connections(nbd) || !vsp_device_is_idle(device)); i++)
		turn();
	fuzz_assert(!vsp_nbd_connections(nbd), "a connection stays");
	fuzz_assert(vsp_device_is_idle(device), "requests stay in flight");
	vsp_nbd_free(nbd);
	vsp_device_free(device);
}

static void run(const uint8_t *data, size_t size)
{
	static const unsigned at_once[] = { 1, 29, 4096, UINT32_MAX };
	struct client client = { .form = size ? data[0] >> 2 & 3 : RAW };
	struct vsp_device *device;
	struct vsp_nbd *nbd;
	int pair[2];

	if (!size || (size > 2048 && (data[0] & 3) == 0))
		return;
	for (unsigned i = 0; i < DISK_BYTES; i++)
		contents[i] = i < DISK_BYTES / 2 ? (uint8_t)(i * 7) : 0;
	device = new_device(data[0] & 16);
	fuzz_assert(vsp_nbd_new(fuzz_loop(), &nbd, NULL) == 0, "no server");
	fuzz_assert(vsp_nbd_export(nbd, "", device, NULL) == 0, "no export");
	fuzz_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0,
		    "no socket");
	client.fd = pair[0];
	fuzz_assert(vsp_nbd_connect(nbd, pair[1], NULL) == 0, "no connection");
	come_in(&client);
	holding = data[0] & 32;
	converse(&client, data + 1, size - 1, at_once[data[0] & 3], !(data[0] & 32));
	close(client.fd);
	turn();
	holding = false;
	end(nbd, device);
	free(client.got);
}

const struct fuzz_target fuzz_target = { .run = run };
