/*
 * TLS beneath the protocol, from STARTTLS on: between the socket and the rest of the server, which
 * sees the same bytes as without.
 *
 * The handshake is done by the loop's pool, so that a signature delays nobody's disk: meanwhile
 * nothing is read from that client, and the work counts as a request, so that the connection stays.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "hvcore/checked.h"
#include "hvcore/log.h"
#include "vsp-storage/nbd_connection.h"
#include "vsp-storage/tls.h"

#define RECEIVE_BYTES (64u << 10)
#define RECEIVES 16
#define OUTPUT_BYTES (128u << 10) /* encrypted at once */

struct nbd_tls {
	struct hv_work work; /* the first member */
	struct nbd_connection *connection;
	struct vsp_tls_session *session;
	bool works, established;
	struct hv_err err; /* of the handshake */
	uint8_t input[RECEIVE_BYTES];
};

/* Beginning and end. */

void nbd_tls_begin(struct nbd_connection *connection)
{
	struct nbd_tls *tls = calloc(1, sizeof(*tls));

	connection->starts_tls = false;
	if (tls)
		tls->session = vsp_tls_session_new(nbd_credentials(connection->nbd));
	if (!tls || !tls->session) {
		free(tls);
		nbd_close(connection);
		return;
	}
	tls->connection = connection;
	connection->tls = tls;
}

void nbd_tls_free(struct nbd_tls *tls)
{
	if (!tls)
		return;
	vsp_tls_session_free(tls->session);
	hv_err_clear(&tls->err);
	free(tls);
}

bool nbd_tls_wants_input(const struct nbd_tls *tls)
{
	const void *output;

	return !tls->works && vsp_tls_output(tls->session, &output) < OUTPUT_BYTES;
}

bool nbd_tls_has_input(const struct nbd_tls *tls)
{
	return !tls->works && tls->established && vsp_tls_has_input(tls->session);
}

bool nbd_tls_has_output(const struct nbd_tls *tls)
{
	const void *output;

	return !tls->works && vsp_tls_output(tls->session, &output);
}

/* Handshake. */

static int shake(struct hv_work *work)
{
	struct nbd_tls *tls = (struct nbd_tls *)work;

	return vsp_tls_shake(tls->session, &tls->err);
}

/* What it has failed for is told to the client, if TLS has a word for it. */
static void shaken(struct hv_work *work, int result)
{
	struct nbd_tls *tls = (struct nbd_tls *)work;
	struct nbd_connection *connection = tls->connection;

	tls->works = false;
	connection->requests--;
	tls->established = result == 0;
	if (result && result != -EAGAIN) {
		hv_log(HV_LOG_INFO, "an NBD client was refused: %s",
		       hv_err_text(&tls->err, result));
		if (connection->phase != NBD_CLOSED)
			connection->phase = NBD_DRAINING;
	}
	nbd_schedule(connection);
}

static void begin_work(struct nbd_tls *tls)
{
	tls->works = true;
	tls->connection->requests++;
	tls->work.run = shake;
	tls->work.done = shaken;
	hv_loop_work(nbd_loop(tls->connection->nbd), &tls->work);
}

/* Receiving. */

/* As recv: what came is with the session then. */
static ssize_t receive(struct nbd_tls *tls)
{
	ssize_t n = recv(tls->connection->watch.fd, tls->input, sizeof(tls->input), MSG_DONTWAIT);

	if (n > 0 && vsp_tls_feed(tls->session, tls->input, (size_t)n)) {
		errno = ENOMEM;
		return -1;
	}
	return n;
}

/* Decrypts what the session has, up to what is wanted. */
static ssize_t decrypt(struct nbd_tls *tls, const struct iovec *iov, size_t count, size_t *total)
{
	size_t skip = *total;

	for (size_t i = 0; i < count; i++) {
		while (skip < iov[i].iov_len) {
			ssize_t n = vsp_tls_read(tls->session, (char *)iov[i].iov_base + skip,
						 iov[i].iov_len - skip);

			if (n <= 0)
				return n;
			skip += (size_t)n;
			*total += (size_t)n;
		}
		skip -= iov[i].iov_len;
	}
	return 1;
}

static ssize_t fail(int code)
{
	errno = -code;
	return -1;
}

ssize_t nbd_tls_receive(struct nbd_tls *tls, const struct iovec *iov, size_t count)
{
	size_t total = 0;
	ssize_t n;

	for (int i = 0; tls->established; i++) {
		n = decrypt(tls, iov, count, &total);

		if (n > 0 || (total && (n != -EAGAIN || i == RECEIVES)))
			return (ssize_t)total;
		if (n != -EAGAIN || i == RECEIVES)
			return n ? fail((int)n) : 0;
		n = receive(tls);
		if (n <= 0)
			return total ? (ssize_t)total : n;
	}
	n = receive(tls);
	if (n <= 0)
		return n;
	begin_work(tls);
	return fail(-EAGAIN);
}

/* Sending. */

static ssize_t send_output(struct nbd_tls *tls)
{
	const void *output;
	size_t length;

	while ((length = vsp_tls_output(tls->session, &output))) {
		ssize_t n = send(tls->connection->watch.fd, output, length,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		vsp_tls_sent(tls->session, (size_t)n);
	}
	return 0;
}

/* Small pieces are put together: each that is encrypted by itself costs 22 bytes and a call. */
static ssize_t encrypt(struct nbd_tls *tls, const struct iovec *iov, size_t count)
{
	uint8_t record[16384];
	size_t filled = 0, total = 0;

	for (size_t i = 0; i < count && total < OUTPUT_BYTES; i++)
		for (size_t done = 0; done < iov[i].iov_len && total < OUTPUT_BYTES;) {
			size_t n = hv_min_u64(iov[i].iov_len - done, sizeof(record) - filled);

			memcpy(record + filled, (const char *)iov[i].iov_base + done, n);
			filled += n;
			done += n;
			total += n;
			if (filled < sizeof(record))
				continue;
			if (vsp_tls_write(tls->session, record, filled))
				return fail(-EPROTO);
			filled = 0;
		}
	return vsp_tls_write(tls->session, record, filled) ? fail(-EPROTO) : (ssize_t)total;
}

ssize_t nbd_tls_send(struct nbd_tls *tls, const struct iovec *iov, size_t count)
{
	ssize_t n;

	if (tls->works)
		return fail(-EAGAIN);
	if (send_output(tls))
		return -1;
	if (!count)
		return 0;
	n = encrypt(tls, iov, count);
	if (n >= 0 && send_output(tls) && errno != EAGAIN)
		return -1;
	return n;
}
