// SPDX-License-Identifier: MIT
// libeffects.so, preloaded into a server by `xs-crash --every-effect`: counts
// every call that changes the journal, touches a socket, or goes to the hypervisor,
// and ends the process with SIGKILL before or after the one that it was told to.
#include <dlfcn.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
extern "C" {  // these headers do not say it themselves
#include <xenevtchn.h>
#include <xengnttab.h>
}

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "tools/crash/effects_control.h"

namespace {

using crash::EffectsControl;

EffectsControl* map_control() {
  const char* path = std::getenv(crash::kEffectsVariable);
  const int fd = path == nullptr ? -1 : ::open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* const mapped =
      ::mmap(nullptr, sizeof(EffectsControl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  return mapped == MAP_FAILED ? nullptr : static_cast<EffectsControl*>(mapped);
}

EffectsControl* control() {
  static EffectsControl* const mapped = map_control();
  return mapped;
}

/// Lives for the time of one effect.
class Effect {
 public:
  explicit Effect(const char* name, bool counts = true) {
    EffectsControl* const shared = control();
    if (!counts || shared == nullptr || shared->is_armed == 0) return;
    number_ = ++shared->count;
    if (number_ != shared->kill_at) return;
    std::snprintf(shared->last, sizeof(shared->last), "%s", name);
    if (shared->before != 0) ::kill(::getpid(), SIGKILL);
  }
  Effect(const Effect&) = delete;
  Effect& operator=(const Effect&) = delete;
  ~Effect() {
    if (number_ != 0 && number_ == control()->kill_at) ::kill(::getpid(), SIGKILL);
  }

 private:
  std::uint64_t number_ = 0;
};

/// Where events arrive and ports are unmasked.
std::atomic<int> event_channels{-1};

bool is_door(int fd) {
  struct stat status;
  return fd == event_channels || (::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode));
}

template <class Function>
Function* next(Function*, const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

#define REAL(function) static const auto real = next(&(function), #function)

extern "C" {

int mdb_env_open(MDB_env* env, const char* path, unsigned flags, mdb_mode_t mode) {
  REAL(mdb_env_open);
  const Effect effect("mdb_env_open");
  return real(env, path, flags, mode);
}

int mdb_txn_commit(MDB_txn* txn) {
  REAL(mdb_txn_commit);
  const Effect effect("mdb_txn_commit");
  return real(txn);
}

int mdb_put(MDB_txn* txn, MDB_dbi dbi, MDB_val* key, MDB_val* data, unsigned flags) {
  REAL(mdb_put);
  const Effect effect("mdb_put");
  return real(txn, dbi, key, data, flags);
}

int mdb_del(MDB_txn* txn, MDB_dbi dbi, MDB_val* key, MDB_val* data) {
  REAL(mdb_del);
  const Effect effect("mdb_del");
  return real(txn, dbi, key, data);
}

int mdb_drop(MDB_txn* txn, MDB_dbi dbi, int del) {
  REAL(mdb_drop);
  const Effect effect("mdb_drop");
  return real(txn, dbi, del);
}

int mdb_cursor_put(MDB_cursor* cursor, MDB_val* key, MDB_val* data, unsigned flags) {
  REAL(mdb_cursor_put);
  const Effect effect("mdb_cursor_put");
  return real(cursor, key, data, flags);
}

int mdb_cursor_del(MDB_cursor* cursor, unsigned flags) {
  REAL(mdb_cursor_del);
  const Effect effect("mdb_cursor_del");
  return real(cursor, flags);
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
  REAL(fallocate);
  const Effect effect("fallocate");
  return real(fd, mode, offset, length);
}

int posix_fallocate(int fd, off_t offset, off_t length) {
  REAL(posix_fallocate);
  const Effect effect("posix_fallocate");
  return real(fd, offset, length);
}

int ftruncate(int fd, off_t length) noexcept {
  REAL(ftruncate);
  const Effect effect("ftruncate");
  return real(fd, length);
}

int rename(const char* from, const char* to) noexcept {
  REAL(rename);
  const Effect effect("rename");
  return real(from, to);
}

int unlink(const char* path) noexcept {
  REAL(unlink);
  const Effect effect("unlink");
  return real(path);
}

int bind(int fd, const sockaddr* address, socklen_t length) noexcept {
  REAL(bind);
  const Effect effect("bind");
  return real(fd, address, length);
}

int listen(int fd, int backlog) noexcept {
  REAL(listen);
  const Effect effect("listen");
  return real(fd, backlog);
}

int accept(int fd, sockaddr* address, socklen_t* length) {
  REAL(accept);
  const Effect effect("accept");
  return real(fd, address, length);
}

int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  REAL(accept4);
  const Effect effect("accept4");
  return real(fd, address, length, flags);
}

ssize_t send(int fd, const void* data, size_t size, int flags) {
  REAL(send);
  const Effect effect("send");
  return real(fd, data, size, flags);
}

ssize_t sendto(int fd, const void* data, size_t size, int flags, const sockaddr* address,
               socklen_t length) {
  REAL(sendto);
  const Effect effect("sendto");
  return real(fd, data, size, flags, address, length);
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  REAL(sendmsg);
  const Effect effect("sendmsg");
  return real(fd, message, flags);
}

ssize_t write(int fd, const void* data, size_t size) {
  REAL(write);
  const Effect effect("write", is_door(fd));
  return real(fd, data, size);
}

ssize_t writev(int fd, const iovec* parts, int count) {
  REAL(writev);
  const Effect effect("writev", is_door(fd));
  return real(fd, parts, count);
}

ssize_t recv(int fd, void* data, size_t size, int flags) {
  REAL(recv);
  const Effect effect("recv");
  return real(fd, data, size, flags);
}

ssize_t recvfrom(int fd, void* data, size_t size, int flags, sockaddr* address, socklen_t* length) {
  REAL(recvfrom);
  const Effect effect("recvfrom");
  return real(fd, data, size, flags, address, length);
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  REAL(recvmsg);
  const Effect effect("recvmsg");
  return real(fd, message, flags);
}

ssize_t read(int fd, void* data, size_t size) {
  REAL(read);
  const Effect effect("read", is_door(fd));
  return real(fd, data, size);
}

ssize_t readv(int fd, const iovec* parts, int count) {
  REAL(readv);
  const Effect effect("readv", is_door(fd));
  return real(fd, parts, count);
}

int xenevtchn_fd(xenevtchn_handle* handle) {
  REAL(xenevtchn_fd);
  return event_channels = real(handle);
}

int xenevtchn_notify(xenevtchn_handle* handle, evtchn_port_t port) {
  REAL(xenevtchn_notify);
  const Effect effect("xenevtchn_notify");
  return real(handle, port);
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle* handle, uint32_t domid,
                                                     evtchn_port_t port) {
  REAL(xenevtchn_bind_interdomain);
  const Effect effect("xenevtchn_bind_interdomain");
  return real(handle, domid, port);
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle* handle, unsigned virq) {
  REAL(xenevtchn_bind_virq);
  const Effect effect("xenevtchn_bind_virq");
  return real(handle, virq);
}

int xenevtchn_unbind(xenevtchn_handle* handle, evtchn_port_t port) {
  REAL(xenevtchn_unbind);
  const Effect effect("xenevtchn_unbind");
  return real(handle, port);
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle* handle) {
  REAL(xenevtchn_pending);
  const Effect effect("xenevtchn_pending");
  return real(handle);
}

int xenevtchn_unmask(xenevtchn_handle* handle, evtchn_port_t port) {
  REAL(xenevtchn_unmask);
  const Effect effect("xenevtchn_unmask");
  return real(handle, port);
}

void* xengnttab_map_grant_ref(xengnttab_handle* handle, uint32_t domid, uint32_t ref,
                              int protection) {
  REAL(xengnttab_map_grant_ref);
  const Effect effect("xengnttab_map_grant_ref");
  return real(handle, domid, ref, protection);
}

int xengnttab_unmap(xengnttab_handle* handle, void* address, uint32_t count) {
  REAL(xengnttab_unmap);
  const Effect effect("xengnttab_unmap");
  return real(handle, address, count);
}

// Declared by a header that is no ISO C++; the pointers are passed on as they are.
int xc_domain_getinfolist(void* control, uint32_t first, unsigned count, void* infos) {
  REAL(xc_domain_getinfolist);
  const Effect effect("xc_domain_getinfolist");
  return real(control, first, count, infos);
}

}  // extern "C"
