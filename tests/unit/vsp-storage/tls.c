/*
 * TLS sessions against OpenSSL's own client, with memory between them: nobody needs a socket.
 * tests/interop/nbd.sh has other people's clients, and certificates.
 */
#include "vsp-storage/tls.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static struct vsp_tls *tls;
static struct vsp_tls_session *session;
static SSL_CTX *context;
static SSL *client;
static BIO *to_client, *from_client;
static const char *user = "alice";
static unsigned char key[] = { 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };

static int load(const char *text, struct hv_err *err)
{
	char path[] = "psk.XXXXXX";
	int fd = mkstemp(path), rc;

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	rc = vsp_tls_new_psk(path, &tls, err);
	unlink(path);
	return rc;
}

static unsigned give_key(SSL *ssl, const char *hint, char *identity, unsigned identity_size,
			 unsigned char *psk, unsigned psk_size)
{
	(void)ssl;
	(void)hint;
	(void)psk_size;
	snprintf(identity, identity_size, "%s", user);
	memcpy(psk, key, sizeof(key));
	return sizeof(key);
}

static void setup(void)
{
	HV_ERR(err);

	cr_assert_eq(load("# keys\nbob:00ff\n\nalice:DEADbeef0102030405060708090a0b0c\n", &err), 0,
		     "%s", err.sentence);
	session = vsp_tls_session_new(tls);
	cr_assert(session);
	context = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_psk_client_callback(context, give_key);
	client = SSL_new(context);
	to_client = BIO_new(BIO_s_mem());
	from_client = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(to_client, -1);
	SSL_set_bio(client, to_client, from_client);
	SSL_set_connect_state(client);
}

static void teardown(void)
{
	SSL_free(client);
	SSL_CTX_free(context);
	vsp_tls_session_free(session);
	vsp_tls_free(tls);
}

TestSuite(tls, .init = setup, .fini = teardown);

/* What the server has to say goes to the client. */
static size_t deliver(void)
{
	const void *bytes;
	size_t length = vsp_tls_output(session, &bytes);

	BIO_write(to_client, bytes, (int)length);
	vsp_tls_sent(session, length);
	return length;
}

/* What the client has to say goes to the server, in pieces. */
static void feed(size_t piece)
{
	char bytes[20000];
	int n;

	while ((n = BIO_read(from_client, bytes,
			     (int)(piece < sizeof(bytes) ? piece : sizeof(bytes)))) > 0)
		cr_assert_eq(vsp_tls_feed(session, bytes, (size_t)n), 0);
}

static int shake(struct hv_err *err)
{
	int rc = -EAGAIN;

	for (int i = 0; i < 10 && rc == -EAGAIN; i++) {
		SSL_do_handshake(client);
		feed(SIZE_MAX);
		rc = vsp_tls_shake(session, err);
		deliver();
	}
	return rc;
}

Test(tls, bytes_go_both_ways)
{
	static char data[100000], back[sizeof(data)];
	size_t got = 0, n;
	HV_ERR(err);

	cr_assert_eq(shake(&err), 0, "%s", err.sentence);
	cr_assert_eq(SSL_do_handshake(client), 1);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7);
	cr_assert_eq(SSL_write(client, data, sizeof(data)), (int)sizeof(data));
	feed(777);
	while (got < sizeof(data)) {
		ssize_t some = vsp_tls_read(session, back + got, sizeof(back) - got);

		cr_assert_gt(some, 0);
		got += (size_t)some;
		cr_assert_eq(vsp_tls_has_input(session), got < sizeof(data));
	}
	cr_assert_arr_eq(data, back, sizeof(data));
	cr_assert_eq(vsp_tls_read(session, back, 1), -EAGAIN);

	cr_assert_eq(vsp_tls_write(session, data, sizeof(data)), 0);
	deliver();
	memset(back, 0, sizeof(back));
	for (got = 0; got < sizeof(data); got += n)
		cr_assert_eq(SSL_read_ex(client, back + got, sizeof(back) - got, &n), 1);
	cr_assert_arr_eq(data, back, sizeof(data));
	SSL_shutdown(client);
	feed(SIZE_MAX);
	cr_assert_eq(vsp_tls_read(session, back, 1), 0);
}

Test(tls, another_key_is_refused)
{
	HV_ERR(err);

	key[0] ^= 1;
	cr_assert_eq(shake(&err), -EPROTO);
	cr_assert(strstr(err.sentence, "TLS: "));
}

Test(tls, an_unknown_user_is_refused)
{
	HV_ERR(err);

	user = "mallory";
	cr_assert_eq(shake(&err), -EPROTO);
}

Test(tls, a_handshake_that_comes_byte_by_byte_is_waited_for)
{
	HV_ERR(err);
	char byte;
	int rc = -EAGAIN;

	for (int i = 0; i < 3 && rc == -EAGAIN; i++) {
		SSL_do_handshake(client);
		while (rc == -EAGAIN && BIO_read(from_client, &byte, 1) == 1) {
			vsp_tls_feed(session, &byte, 1);
			rc = vsp_tls_shake(session, &err);
		}
		deliver();
	}
	cr_assert_eq(rc, 0, "%s", err.sentence);
}

/* Nobody gets in with a handshake of which a byte was changed. */
Test(tls, a_changed_handshake_is_refused_or_waited_for)
{
	char bytes[4096];
	int length;

	SSL_do_handshake(client);
	length = BIO_read(from_client, bytes, sizeof(bytes));
	cr_assert_gt(length, 100);
	for (int i = 0; i < length; i++) {
		HV_AUTO(vsp_tls_session_free)
		struct vsp_tls_session *other = vsp_tls_session_new(tls);
		HV_ERR(err);

		bytes[i] ^= 1 << i % 8;
		vsp_tls_feed(other, bytes, (size_t)length);
		cr_assert_neq(vsp_tls_shake(other, &err), 0);
		bytes[i] ^= 1 << i % 8;
	}
}

Test(tls, noise_is_refused_or_waited_for)
{
	for (int i = 0; i < 300; i++) {
		HV_AUTO(vsp_tls_session_free)
		struct vsp_tls_session *other = vsp_tls_session_new(tls);
		unsigned char bytes[512];
		HV_ERR(err);

		cr_assert_eq(getrandom(bytes, sizeof(bytes), 0), (ssize_t)sizeof(bytes));
		if (i % 2)
			memcpy(bytes, "\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03", 11);
		vsp_tls_feed(other, bytes, sizeof(bytes));
		cr_assert_neq(vsp_tls_shake(other, &err), 0);
		cr_assert_lt(vsp_tls_read(other, bytes, 1), 0);
	}
}

/* Each makes us answer. What is fed is all that can be answered. */
Test(tls, a_flood_of_new_keys_costs_no_more_than_it_brought)
{
	const void *output;
	size_t fed = 0;
	char byte, bytes[65536];
	HV_ERR(err);

	cr_assert_eq(shake(&err), 0);
	SSL_do_handshake(client);
	for (int i = 0; i < 2000; i++) {
		SSL_key_update(client, SSL_KEY_UPDATE_REQUESTED);
		SSL_do_handshake(client);
	}
	for (int n; (n = BIO_read(from_client, bytes, sizeof(bytes))) > 0; fed += (size_t)n)
		vsp_tls_feed(session, bytes, (size_t)n);
	cr_assert_lt(vsp_tls_read(session, &byte, 1), 0);
	cr_assert_leq(vsp_tls_output(session, &output), fed + 1024);
}

Test(tls, files_of_keys_are_read_with_care)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "holds no keys" },
		{ "# nothing\n", "holds no keys" },
		{ "alice\n", ":1: a line" },
		{ ":00\n", ":1: a line" },
		{ "bob:00\nalice:\n", ":2: the key" },
		{ "alice:0\n", ":1: the key" },
		{ "alice:0g\n", ":1: the key" },
	};
	static char line[1200] = "alice:";

	vsp_tls_session_free(session);
	session = NULL;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		HV_ERR(err);

		vsp_tls_free(tls);
		tls = NULL;
		cr_assert_eq(load(cases[i].text, &err), -EINVAL, "%s", cases[i].text);
		cr_assert(strstr(err.sentence, cases[i].says), "%s", err.sentence);
	}
	memset(line + 6, 'a', sizeof(line) - 7);
	cr_assert_eq(load(line, NULL), -EINVAL);
}
