/*
 * Option haggling. An option's data is bounded, and looked at when all of it has come.
 */
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "vsp-storage/nbd_connection.h"
#include "vsp-storage/nbd_wire.h"

#define MAX_OPTION (64u << 10) /* bytes of data */
#define MAX_SKIP (1u << 20)    /* of data that is too much, before we hang up */

static_assert(MAX_OPTION + sizeof(struct nbd_option) <= NBD_RX_BYTES, "an option fits the input");

static const char *const context_names[NBD_CONTEXTS] = {
	[NBD_CONTEXT_ALLOCATION] = "base:allocation",
	[NBD_CONTEXT_DEPTH] = "hvkit:depth",
};

/* An option's data, being taken apart. */
struct data {
	const uint8_t *at;
	size_t left;
};

static bool take(struct data *data, void *ret, size_t length)
{
	if (data->left < length)
		return false;
	memcpy(ret, data->at, length);
	data->at += length;
	data->left -= length;
	return true;
}

static bool take_u32(struct data *data, uint32_t *ret)
{
	hv_be32 value;

	if (!take(data, &value, sizeof(value)))
		return false;
	*ret = hv_be32_get(value);
	return true;
}

static bool take_u16(struct data *data, uint16_t *ret)
{
	hv_be16 value;

	if (!take(data, &value, sizeof(value)))
		return false;
	*ret = hv_be16_get(value);
	return true;
}

/* A length and as many bytes. */
static bool take_string(struct data *data, const char **ret, uint32_t *length)
{
	if (!take_u32(data, length) || *length > NBD_MAX_STRING || *length > data->left)
		return false;
	*ret = (const char *)data->at;
	data->at += *length;
	data->left -= *length;
	return true;
}

/* Output. */

/* Without memory the connection ends. */
static void put(struct nbd_connection *connection, const void *bytes, size_t length)
{
	size_t size = connection->out_bytes + length;

	if (connection->phase == NBD_CLOSED || !length)
		return;
	if (size > connection->out_size) {
		uint8_t *out = realloc(connection->out, size * 2);

		if (!out) {
			nbd_close(connection);
			return;
		}
		connection->out = out;
		connection->out_size = size * 2;
	}
	memcpy(connection->out + connection->out_bytes, bytes, length);
	connection->out_bytes = size;
	nbd_schedule(connection);
}

static void put_reply(struct nbd_connection *connection, uint32_t option, uint32_t type,
		      size_t length)
{
	struct nbd_option_reply reply = {
		.magic = hv_be64_make(NBD_OPTION_REPLY_MAGIC),
		.option = hv_be32_make(option),
		.type = hv_be32_make(type),
		.length = hv_be32_make((uint32_t)length),
	};

	put(connection, &reply, sizeof(reply));
}

/* A reply that is a number and a string. */
static void put_string(struct nbd_connection *connection, uint32_t option, uint32_t type,
		       uint32_t number, const char *string)
{
	hv_be32 head = hv_be32_make(number);

	put_reply(connection, option, type, sizeof(head) + strlen(string));
	put(connection, &head, sizeof(head));
	put(connection, string, strlen(string));
}

int nbd_greet(struct nbd_connection *connection)
{
	struct nbd_greeting greeting = {
		.magic = hv_be64_make(NBD_MAGIC),
		.option_magic = hv_be64_make(NBD_OPTION_MAGIC),
		.flags = hv_be16_make(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
	};

	put(connection, &greeting, sizeof(greeting));
	return connection->phase == NBD_CLOSED ? -1 : 0;
}

/* Exports. */

static uint16_t export_flags(const struct nbd_connection *connection,
			     const struct vsp_device *device)
{
	unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_CAN_MULTI_CONN;

	if (connection->structured)
		flags |= NBD_FLAG_SEND_DF;
	if (device->cache != VSP_CACHE_NONE)
		flags |= NBD_FLAG_SEND_CACHE;
	if (device->read_only)
		return (uint16_t)(flags | NBD_FLAG_READ_ONLY);
	flags |= NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_WRITE_ZEROES;
	/* That zeroing may be asked to be fast is told even if it never is. */
	flags |= NBD_FLAG_SEND_FAST_ZERO;
	if (device->discard)
		flags |= NBD_FLAG_SEND_TRIM;
	return (uint16_t)flags;
}

static void serve(struct nbd_connection *connection, struct vsp_device *device)
{
	if (connection->context_device != device)
		connection->contexts = 0;
	nbd_serve(connection, device);
}

/* The only option that cannot fail but by hanging up. */
static void export_name(struct nbd_connection *connection, struct data *data)
{
	struct vsp_device *device =
		nbd_find_export(connection->nbd, (const char *)data->at, data->left);
	struct nbd_export export = { 0 };

	if (!device) {
		nbd_close(connection);
		return;
	}
	export.size_bytes = hv_be64_make(device->size_bytes);
	export.flags = hv_be16_make(export_flags(connection, device));
	put(connection, &export,
	    connection->no_zeroes ? offsetof(struct nbd_export, zeroes) : sizeof(export));
	if (connection->phase != NBD_CLOSED)
		serve(connection, device);
}

static uint32_t list(struct nbd_connection *connection, struct data *data)
{
	if (data->left)
		return NBD_REP_ERR_INVALID;
	for (const struct nbd_export_entry *entry = nbd_exports(connection->nbd); entry;
	     entry = entry->next)
		put_string(connection, NBD_OPT_LIST, NBD_REP_SERVER, (uint32_t)strlen(entry->name),
			   entry->name);
	return NBD_REP_ACK;
}

static void put_info(struct nbd_connection *connection, uint32_t option,
		     const struct vsp_device *device)
{
	struct nbd_info_export export = {
		.type = hv_be16_make(NBD_INFO_EXPORT),
		.size_bytes = hv_be64_make(device->size_bytes),
		.flags = hv_be16_make(export_flags(connection, device)),
	};
	struct nbd_info_block_size block_size = {
		.type = hv_be16_make(NBD_INFO_BLOCK_SIZE),
		.minimum = hv_be32_make(1),
		.preferred = hv_be32_make(4096),
		.maximum = hv_be32_make(VSP_NBD_MAX_REQUEST),
	};

	put_reply(connection, option, NBD_REP_INFO, sizeof(export));
	put(connection, &export, sizeof(export));
	put_reply(connection, option, NBD_REP_INFO, sizeof(block_size));
	put(connection, &block_size, sizeof(block_size));
}

static void put_name(struct nbd_connection *connection, uint32_t option, const char *name,
		     uint32_t length)
{
	hv_be16 type = hv_be16_make(NBD_INFO_NAME);

	put_reply(connection, option, NBD_REP_INFO, sizeof(type) + length);
	put(connection, &type, sizeof(type));
	put(connection, name, length);
}

/* INFO and GO. What a client does not ask for it may be told, too. */
static uint32_t info(struct nbd_connection *connection, uint32_t option, struct data *data)
{
	struct vsp_device *device;
	uint32_t length;
	uint16_t count, type;
	const char *name;
	bool wants_name = false;

	if (!take_string(data, &name, &length) || !take_u16(data, &count) ||
	    data->left != count * sizeof(hv_be16))
		return NBD_REP_ERR_INVALID;
	while (take_u16(data, &type))
		wants_name |= type == NBD_INFO_NAME;
	device = nbd_find_export(connection->nbd, name, length);
	if (!device)
		return NBD_REP_ERR_UNKNOWN;
	put_info(connection, option, device);
	if (wants_name)
		put_name(connection, option, name, length);
	if (option == NBD_OPT_GO && connection->phase != NBD_CLOSED)
		serve(connection, device);
	return NBD_REP_ACK;
}

/* Meta contexts. */

/* LIST knows "base:" for all that begin with it, and no query at all for all. */
static bool matches(const char *name, const char *query, uint32_t length, bool lists)
{
	size_t space = strcspn(name, ":") + 1;

	if (strlen(name) == length && !memcmp(name, query, length))
		return true;
	return lists && length == space && !memcmp(name, query, space);
}

static bool take_queries(struct data *data, bool lists, unsigned *ret)
{
	uint32_t count, length;
	const char *query;
	unsigned found = 0;

	if (!take_u32(data, &count))
		return false;
	if (!count && lists)
		found = (1u << NBD_CONTEXTS) - 1;
	while (count--) {
		if (!take_string(data, &query, &length))
			return false;
		for (unsigned i = 0; i < NBD_CONTEXTS; i++)
			if (matches(context_names[i], query, length, lists))
				found |= 1u << i;
	}
	*ret = found;
	return data->left == 0;
}

static uint32_t meta_context(struct nbd_connection *connection, uint32_t option, struct data *data)
{
	bool lists = option == NBD_OPT_LIST_META_CONTEXT;
	struct vsp_device *device;
	const char *name;
	uint32_t length;
	unsigned found;

	if (!lists)
		connection->contexts = 0;
	if (!connection->structured || !take_string(data, &name, &length) ||
	    !take_queries(data, lists, &found))
		return NBD_REP_ERR_INVALID;
	device = nbd_find_export(connection->nbd, name, length);
	if (!device)
		return NBD_REP_ERR_UNKNOWN;
	for (unsigned i = 0; i < NBD_CONTEXTS; i++)
		if (found & 1u << i)
			put_string(connection, option, NBD_REP_META_CONTEXT, lists ? 0 : i + 1,
				   context_names[i]);
	if (!lists) {
		connection->contexts = found;
		connection->context_device = device;
	}
	return NBD_REP_ACK;
}

/* Agreements. */

static uint32_t structured_reply(struct nbd_connection *connection, struct data *data)
{
	if (connection->extended)
		return NBD_REP_ERR_EXT_HEADER_REQD;
	if (data->left)
		return NBD_REP_ERR_INVALID;
	connection->structured = true;
	return NBD_REP_ACK;
}

static uint32_t extended_headers(struct nbd_connection *connection, struct data *data)
{
	if (data->left)
		return NBD_REP_ERR_INVALID;
	connection->structured = connection->extended = true;
	return NBD_REP_ACK;
}

/*
 * What was agreed on in plain is forgotten: somebody between us may have said it. So is the client
 * itself that has said more already, which would count as said under TLS.
 */
static uint32_t start_tls(struct nbd_connection *connection, struct data *data)
{
	if (!nbd_credentials(connection->nbd))
		return NBD_REP_ERR_UNSUP;
	if (data->left || connection->tls)
		return NBD_REP_ERR_INVALID;
	if (connection->rx_start < connection->rx_end)
		nbd_close(connection);
	connection->structured = connection->extended = false;
	connection->context_device = NULL;
	connection->contexts = 0;
	connection->starts_tls = true;
	return NBD_REP_ACK;
}

/* Options. */

/* What may be said in plain where TLS has to be used. */
static bool is_open(uint32_t option)
{
	return option == NBD_OPT_STARTTLS || option == NBD_OPT_ABORT;
}

static void refuse(struct nbd_connection *connection, uint32_t option)
{
	if (option == NBD_OPT_EXPORT_NAME)
		nbd_close(connection);
	else
		put_reply(connection, option, NBD_REP_ERR_TLS_REQD, 0);
}

static void handle(struct nbd_connection *connection, uint32_t option, struct data *data)
{
	uint32_t answer = NBD_REP_ERR_UNSUP;

	if (!is_open(option) && nbd_lacks_tls(connection)) {
		refuse(connection, option);
		return;
	}
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		export_name(connection, data);
		return;
	case NBD_OPT_ABORT:
		connection->phase = NBD_DRAINING;
		answer = NBD_REP_ACK;
		break;
	case NBD_OPT_LIST:
		answer = list(connection, data);
		break;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		answer = info(connection, option, data);
		break;
	case NBD_OPT_STRUCTURED_REPLY:
		answer = structured_reply(connection, data);
		break;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		answer = meta_context(connection, option, data);
		break;
	case NBD_OPT_EXTENDED_HEADERS:
		answer = extended_headers(connection, data);
		break;
	case NBD_OPT_STARTTLS:
		answer = start_tls(connection, data);
		break;
	default:
		break;
	}
	put_reply(connection, option, answer, 0);
}

static void too_big(struct nbd_connection *connection, uint32_t option, uint32_t length)
{
	if (length > MAX_SKIP || option == NBD_OPT_EXPORT_NAME) {
		nbd_close(connection);
		return;
	}
	connection->skip_bytes = length;
	put_reply(connection, option, NBD_REP_ERR_TOO_BIG, 0);
}

/* False: more input is needed. */
static bool take_option(struct nbd_connection *connection)
{
	size_t have = connection->rx_end - connection->rx_start;
	const uint8_t *input = connection->rx + connection->rx_start;
	struct nbd_option header;
	struct data data = { input + sizeof(header), 0 };
	uint32_t option, length;

	if (have < sizeof(header))
		return false;
	memcpy(&header, input, sizeof(header));
	option = hv_be32_get(header.option);
	length = hv_be32_get(header.length);
	if (hv_be64_get(header.magic) != NBD_OPTION_MAGIC) {
		nbd_close(connection);
		return false;
	}
	if (length > MAX_OPTION) {
		connection->rx_start += sizeof(header);
		too_big(connection, option, length);
		return true;
	}
	if (have - sizeof(header) < length)
		return false;
	connection->rx_start += sizeof(header) + length;
	data.left = length;
	handle(connection, option, &data);
	return true;
}

static bool take_flags(struct nbd_connection *connection)
{
	hv_be32 wire;
	uint32_t flags;

	if (connection->rx_end - connection->rx_start < sizeof(wire))
		return false;
	memcpy(&wire, connection->rx + connection->rx_start, sizeof(wire));
	connection->rx_start += sizeof(wire);
	flags = hv_be32_get(wire);
	if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
		nbd_close(connection);
		return false;
	}
	connection->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	connection->phase = NBD_HAGGLING;
	return true;
}

static bool take_skipped(struct nbd_connection *connection)
{
	size_t n = hv_min_u64(connection->skip_bytes, connection->rx_end - connection->rx_start);

	connection->rx_start += n;
	connection->skip_bytes -= n;
	return !connection->skip_bytes;
}

void nbd_haggle(struct nbd_connection *connection)
{
	bool more = true;

	while (more && !connection->out_bytes) {
		if (connection->phase == NBD_GREETING)
			more = take_flags(connection);
		else if (connection->phase != NBD_HAGGLING)
			more = false;
		else if (connection->skip_bytes)
			more = take_skipped(connection);
		else
			more = take_option(connection);
	}
}
