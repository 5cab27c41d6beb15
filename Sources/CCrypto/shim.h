// The digests of OpenSSL's libcrypto, as they are, by its low-level functions: their contexts are
// plain values, and they cannot fail. The newer EVP functions allocate, look an algorithm up by its
// name, and find none where openssl.cnf cannot be read, or where FIPS mode forbids MD5, which is no
// matter of security here: it is what a manifest names its chunks by. OpenSSL 3 marks the low-level
// functions as deprecated and has them all the same; the first line keeps that mark from becoming a
// warning in each file that calls them.
#pragma once
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/md5.h>
#include <openssl/sha.h>
