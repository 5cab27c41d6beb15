// libcurl. `curl_easy_setopt` and `curl_multi_setopt` are variadic, which Swift cannot call: each
// shim below fixes the type of the one argument, so a wrong pairing of option and type does not
// compile.
#pragma once
#include <curl/curl.h>

// CURLOPT_QUICK_EXIT, without which a transfer that ends waits for a slow name server.
#if LIBCURL_VERSION_NUM < 0x075700
#error "inventoryfs needs libcurl 7.87 or newer: Debian 12, Ubuntu 24.04 and later have it"
#endif

static inline CURLcode inventoryfs_setopt_long(CURL *handle, CURLoption option, long value) {
  return curl_easy_setopt(handle, option, value);
}
static inline CURLcode inventoryfs_setopt_string(CURL *handle, CURLoption option, const char *value) {
  return curl_easy_setopt(handle, option, value);
}
static inline CURLcode inventoryfs_setopt_pointer(CURL *handle, CURLoption option, void *value) {
  return curl_easy_setopt(handle, option, value);
}
static inline CURLcode inventoryfs_setopt_headers(CURL *handle, struct curl_slist *headers) {
  return curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
}
static inline CURLcode inventoryfs_setopt_write(CURL *handle, curl_write_callback function, void *context) {
  CURLcode code = curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, function);
  return code != CURLE_OK ? code : curl_easy_setopt(handle, CURLOPT_WRITEDATA, context);
}
static inline CURLcode inventoryfs_setopt_header(CURL *handle, curl_write_callback function, void *context) {
  CURLcode code = curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, function);
  return code != CURLE_OK ? code : curl_easy_setopt(handle, CURLOPT_HEADERDATA, context);
}
static inline CURLcode inventoryfs_setopt_socket(CURL *handle, curl_opensocket_callback function, void *context) {
  CURLcode code = curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, function);
  return code != CURLE_OK ? code : curl_easy_setopt(handle, CURLOPT_OPENSOCKETDATA, context);
}
static inline CURLMcode inventoryfs_multi_setopt_long(CURLM *multi, CURLMoption option, long value) {
  return curl_multi_setopt(multi, option, value);
}
// CURLMsg keeps its result in an anonymous union, which Swift names unhandily.
static inline CURLcode inventoryfs_message_result(const CURLMsg *message) { return message->data.result; }
static inline long inventoryfs_response_status(CURL *handle) {
  long status = 0;
  return curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK ? status : 0;
}
