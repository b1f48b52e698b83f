/*
 * TLS for the server's side, by OpenSSL: credentials, and sessions that know no socket. What comes
 * from the network is fed to a session, what is to go there is taken from it. So a session neither
 * waits nor reads more than it is given, and its handshake, the only part that takes time (a
 * signature and what goes before it), may be done by another thread.
 *
 * TLS 1.2 or later with certificates, 1.3 with pre-shared keys. No resumption, no renegotiation.
 */
#ifndef VSP_STORAGE_TLS_H
#define VSP_STORAGE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "hvcore/cleanup.h"
#include "hvcore/err.h"

struct vsp_tls;
struct vsp_tls_session;

/*
 * Certificates as other NBD servers and libvirt have them: ca-cert.pem, server-cert.pem and
 * server-key.pem in the directory, and ca-crl.pem where some were revoked. Clients have to show a
 * certificate of that authority.
 */
int vsp_tls_new_certificates(const char *directory, struct vsp_tls **ret, struct hv_err *err);

/* A file of lines "USER:KEY", with the key in hexadecimal digits, as psktool makes it. */
int vsp_tls_new_psk(const char *path, struct vsp_tls **ret, struct hv_err *err);

/* No session is left. */
void vsp_tls_free(struct vsp_tls *tls);
HV_DEFINE_CLEANUP(struct vsp_tls, vsp_tls_free)

/* NULL without memory. tls may be used by several threads, a session by one at a time. */
struct vsp_tls_session *vsp_tls_session_new(const struct vsp_tls *tls);
void vsp_tls_session_free(struct vsp_tls_session *session);
HV_DEFINE_CLEANUP(struct vsp_tls_session, vsp_tls_session_free)

/* What has come from the network. -ENOMEM. */
int vsp_tls_feed(struct vsp_tls_session *session, const void *bytes, size_t length);

/*
 * Goes on with the handshake: 0: it is done; -EAGAIN: more has to come; -EPROTO: it has failed, err
 * tells why. There may be something to be sent in each case.
 */
int vsp_tls_shake(struct vsp_tls_session *session, struct hv_err *err);

/* Of what was fed: bytes, 0 at the client's end, -EAGAIN, -EPROTO. */
ssize_t vsp_tls_read(struct vsp_tls_session *session, void *bytes, size_t length);

/* Has something been fed that was not looked at yet? After -EAGAIN there is nothing. */
bool vsp_tls_has_input(const struct vsp_tls_session *session);

/* Encrypts all of it. -ENOMEM, -EPROTO. */
int vsp_tls_write(struct vsp_tls_session *session, const void *bytes, size_t length);

/* What is to be sent; the caller tells how much of it was. */
size_t vsp_tls_output(const struct vsp_tls_session *session, const void **ret);
void vsp_tls_sent(struct vsp_tls_session *session, size_t length);

#endif
