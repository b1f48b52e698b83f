/*
 * OpenSSL, with memory instead of sockets.
 */
#include "vsp-storage/tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/err.h"

#define PSK_LINE_MAX 1024
#define PSK_KEY_MAX 256 /* bytes: OpenSSL's own bound */

struct user {
	struct user *next;
	unsigned char key[PSK_KEY_MAX];
	unsigned key_bytes;
	char name[];
};

struct vsp_tls {
	SSL_CTX *context;
	struct user *users;
};

struct vsp_tls_session {
	SSL *ssl;
	BIO *in, *out; /* the ssl's */
	size_t sent;   /* of what out holds */
};

static int no_memory(struct hv_err *err)
{
	return hv_fail(err, -ENOMEM, "not enough memory for TLS");
}

/* The reason for the oldest error of this thread, which are then forgotten. */
static const char *reason(void)
{
	unsigned long code = ERR_get_error();
	const char *text = ERR_reason_error_string(code);

	ERR_clear_error();
	return text ? text : "unknown error";
}

/* Credentials. */

static int new_tls(int min_version, struct vsp_tls **ret, struct hv_err *err)
{
	HV_AUTO(vsp_tls_free) struct vsp_tls *tls = calloc(1, sizeof(*tls));

	if (!tls || !(tls->context = SSL_CTX_new(TLS_server_method())))
		return no_memory(err);
	SSL_CTX_set_min_proto_version(tls->context, min_version);
	SSL_CTX_set_options(tls->context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_num_tickets(tls->context, 0);
	SSL_CTX_set_session_cache_mode(tls->context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(tls->context, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_app_data(tls->context, tls);
	*ret = hv_steal(tls);
	return 0;
}

void vsp_tls_free(struct vsp_tls *tls)
{
	struct user *user;

	if (!tls)
		return;
	SSL_CTX_free(tls->context);
	while ((user = tls->users)) {
		tls->users = user->next;
		OPENSSL_cleanse(user->key, sizeof(user->key));
		free(user);
	}
	free(tls);
}

/* Certificates. */

static int load_authority(SSL_CTX *context, const char *directory, struct hv_err *err)
{
	HV_AUTO(free) char *ca = NULL, *crl = NULL;
	X509_STORE *store = SSL_CTX_get_cert_store(context);

	if (asprintf(&ca, "%s/ca-cert.pem", directory) < 0 ||
	    asprintf(&crl, "%s/ca-crl.pem", directory) < 0)
		return no_memory(err);
	if (SSL_CTX_load_verify_file(context, ca) != 1)
		return hv_fail(err, -EINVAL, "%s: cannot be used as certificate authority: %s", ca,
			       reason());
	SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(ca));
	if (access(crl, F_OK))
		return 0;
	if (X509_STORE_load_file(store, crl) != 1)
		return hv_fail(err, -EINVAL, "%s: cannot be used as list of revocations: %s", crl,
			       reason());
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
	return 0;
}

static int load_server(SSL_CTX *context, const char *directory, struct hv_err *err)
{
	HV_AUTO(free) char *certificate = NULL, *key = NULL;

	if (asprintf(&certificate, "%s/server-cert.pem", directory) < 0 ||
	    asprintf(&key, "%s/server-key.pem", directory) < 0)
		return no_memory(err);
	if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
		return hv_fail(err, -EINVAL, "%s: cannot be used as certificate: %s", certificate,
			       reason());
	if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
		return hv_fail(err, -EINVAL, "%s: cannot be used as the key of \"%s\": %s", key,
			       certificate, reason());
	return 0;
}

int vsp_tls_new_certificates(const char *directory, struct vsp_tls **ret, struct hv_err *err)
{
	HV_AUTO(vsp_tls_free) struct vsp_tls *tls = NULL;
	int rc = new_tls(TLS1_2_VERSION, &tls, err);

	if (rc == 0)
		rc = load_authority(tls->context, directory, err);
	if (rc == 0)
		rc = load_server(tls->context, directory, err);
	if (rc)
		return rc;
	SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	*ret = hv_steal(tls);
	return 0;
}

/* Pre-shared keys. */

static unsigned find_key(SSL *ssl, const char *identity, unsigned char *key, unsigned size)
{
	const struct vsp_tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	for (const struct user *user = tls->users; user; user = user->next)
		if (!strcmp(user->name, identity) && user->key_bytes <= size) {
			memcpy(key, user->key, user->key_bytes);
			return user->key_bytes;
		}
	return 0;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes of the key; 0: it is none. */
static unsigned parse_key(const char *text, unsigned char key[PSK_KEY_MAX])
{
	size_t length = strlen(text);

	if (length % 2 || length / 2 > PSK_KEY_MAX)
		return 0;
	for (size_t i = 0; i < length; i += 2) {
		int high = digit(text[i]), low = digit(text[i + 1]);

		if (high < 0 || low < 0)
			return 0;
		key[i / 2] = (unsigned char)(high << 4 | low);
	}
	return (unsigned)length / 2;
}

static int add_user(struct vsp_tls *tls, char *line, struct hv_err *err)
{
	char *text = strrchr(line, ':');
	struct user *user;

	if (!text || text == line)
		return hv_fail(err, -EINVAL, "a line \"USER:KEY\" is wanted");
	*text++ = '\0';
	user = calloc(1, sizeof(*user) + strlen(line) + 1);
	if (!user)
		return no_memory(err);
	user->next = tls->users;
	tls->users = user;
	memcpy(user->name, line, strlen(line));
	user->key_bytes = parse_key(text, user->key);
	if (user->key_bytes)
		return 0;
	return hv_fail(err, -EINVAL,
		       "the key of \"%s\" is not an even number of hexadecimal digits, up to %d",
		       user->name, 2 * PSK_KEY_MAX);
}

static int read_users(struct vsp_tls *tls, FILE *file, const char *path, struct hv_err *err)
{
	char line[PSK_LINE_MAX];
	unsigned number = 0;
	int rc = 0;

	while (rc == 0 && fgets(line, sizeof(line), file)) {
		HV_ERR(cause);

		number++;
		line[strcspn(line, "\r\n")] = '\0';
		if (!*line || *line == '#')
			continue;
		rc = add_user(tls, line, &cause);
		if (rc)
			hv_fail(err, rc, "%s:%u: %s", path, number, cause.sentence);
	}
	OPENSSL_cleanse(line, sizeof(line));
	if (rc == 0 && !tls->users)
		rc = hv_fail(err, -EINVAL, "%s: holds no keys", path);
	return rc;
}

int vsp_tls_new_psk(const char *path, struct vsp_tls **ret, struct hv_err *err)
{
	HV_AUTO(vsp_tls_free) struct vsp_tls *tls = NULL;
	FILE *file;
	int rc = new_tls(TLS1_3_VERSION, &tls, err);

	if (rc)
		return rc;
	file = fopen(path, "re");
	if (!file)
		return hv_fail_errno(err, -errno, "%s", path);
	rc = read_users(tls, file, path, err);
	fclose(file);
	if (rc)
		return rc;
	SSL_CTX_set_psk_server_callback(tls->context, find_key);
	*ret = hv_steal(tls);
	return 0;
}

/* Sessions. */

struct vsp_tls_session *vsp_tls_session_new(const struct vsp_tls *tls)
{
	HV_AUTO(vsp_tls_session_free) struct vsp_tls_session *session = calloc(1, sizeof(*session));
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

	if (session && in && out)
		session->ssl = SSL_new(tls->context);
	if (!session || !session->ssl) {
		BIO_free(in);
		BIO_free(out);
		return NULL;
	}
	BIO_set_mem_eof_return(in, -1);
	SSL_set_bio(session->ssl, in, out);
	SSL_set_accept_state(session->ssl);
	session->in = in;
	session->out = out;
	return hv_steal(session);
}

void vsp_tls_session_free(struct vsp_tls_session *session)
{
	if (!session)
		return;
	SSL_free(session->ssl);
	free(session);
}

int vsp_tls_feed(struct vsp_tls_session *session, const void *bytes, size_t length)
{
	return length <= INT_MAX && BIO_write(session->in, bytes, (int)length) == (int)length ?
		       0 :
		       -ENOMEM;
}

int vsp_tls_shake(struct vsp_tls_session *session, struct hv_err *err)
{
	int rc;

	ERR_clear_error();
	rc = SSL_do_handshake(session->ssl);
	if (rc == 1)
		return 0;
	if (SSL_get_error(session->ssl, rc) == SSL_ERROR_WANT_READ)
		return -EAGAIN;
	return hv_fail(err, -EPROTO, "TLS: %s", reason());
}

ssize_t vsp_tls_read(struct vsp_tls_session *session, void *bytes, size_t length)
{
	size_t n;

	ERR_clear_error();
	if (SSL_read_ex(session->ssl, bytes, length, &n) == 1)
		return (ssize_t)n;
	switch (SSL_get_error(session->ssl, 0)) {
	case SSL_ERROR_WANT_READ:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		ERR_clear_error();
		return -EPROTO;
	}
}

bool vsp_tls_has_input(const struct vsp_tls_session *session)
{
	return SSL_pending(session->ssl) || BIO_ctrl_pending(session->in);
}

int vsp_tls_write(struct vsp_tls_session *session, const void *bytes, size_t length)
{
	size_t n;

	ERR_clear_error();
	if (!length || SSL_write_ex(session->ssl, bytes, length, &n) == 1)
		return 0;
	ERR_clear_error();
	return -EPROTO;
}

size_t vsp_tls_output(const struct vsp_tls_session *session, const void **ret)
{
	char *bytes;
	long length = BIO_get_mem_data(session->out, &bytes);

	*ret = bytes + session->sent;
	return (size_t)length - session->sent;
}

void vsp_tls_sent(struct vsp_tls_session *session, size_t length)
{
	const void *rest;

	session->sent += length;
	if (vsp_tls_output(session, &rest))
		return;
	BIO_reset(session->out);
	session->sent = 0;
}
