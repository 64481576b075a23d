// SPDX-License-Identifier: MIT
// libmutant.so, preloaded into a server to make it a bad one, so that the crash
// driver can be seen to notice. XS_MUTANT chooses:
//   late     replies before it commits: a commit says that it is done at once and
//            is really done when the next transaction begins;
//   drop=K   every K-th put says that it is done and does nothing;
//   table=T  likewise every third put into table T of the journal (2: connections,
//            4: what a ring is still to be sent);
//   notify=K a server that is not the first sends each port its first K events not;
//   sent=K   what the kernel writes of every K-th sendmmsg() that sent something
//            (how much of each message) is there only some milliseconds after the
//            bytes have left: a server killed meanwhile has sent more than it noted;
//   received=K  likewise of recvmmsg(): it has taken more than it noted;
//   undoubting  a server takes a plain call that the one before died in for one that
//            has moved nothing (--sure-rate).
#include <dlfcn.h>
#include <lmdb.h>
extern "C" {
#include <xenevtchn.h>
}
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <system_error>
#include <vector>

namespace {

template <class Function>
Function* next(Function*, const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

const char* mutation() {
  static const char* const name = std::getenv("XS_MUTANT");
  return name == nullptr ? "" : name;
}

bool is_late() { return std::strcmp(mutation(), "late") == 0; }

/// Whether another server was here before this one was started.
const bool has_past = [] {
  const char* const directory = std::getenv("XENSTORED_RUNDIR");
  return directory != nullptr && ::access((std::string(directory) + "/area").c_str(), F_OK) == 0;
}();

/// The number behind "name=" if that is the mutation, else 0.
unsigned long number_of(const char* name) {
  const std::size_t length = std::strlen(name);
  const bool is_this = std::strncmp(mutation(), name, length) == 0 && mutation()[length] == '=';
  return is_this ? std::strtoul(mutation() + length + 1, nullptr, 10) : 0;
}

/// The number with which a kept client's file says that a call is under way, in its first
/// bytes, becomes that of a call that moved nothing.
const bool has_no_doubt = [] {
  const char* const directory = std::getenv("XENSTORED_RUNDIR");
  if (directory == nullptr || std::strcmp(mutation(), "undoubting") != 0) return false;
  std::error_code error;
  const std::string folder = std::string(directory) + "/area/clients";
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::array<std::uint64_t, 3> words{};  // two positions, of both streams, and what is between
    file.read(reinterpret_cast<char*>(words.data()), sizeof words);
    for (std::uint64_t& word : words) {
      if (word != ~std::uint64_t{0}) word &= ~(std::uint64_t{1} << 63);
    }
    file.seekp(0);
    file.write(reinterpret_cast<const char*>(words.data()), sizeof words);
  }
  return true;
}();

/// Whether this put is one to be dropped. A reserved value is written by the
/// caller afterwards, so there must be room for it.
bool is_dropped(const MDB_val& key, unsigned flags) {
  static const unsigned long table = number_of("table");
  static const unsigned long every = table != 0 ? 3 : number_of("drop");
  static unsigned long count = 0;
  if (every == 0 || (flags & MDB_RESERVE) != 0 || key.mv_size == 0) return false;
  if (table != 0 && *static_cast<const unsigned char*>(key.mv_data) != table) return false;
  return ++count % every == 0;
}

/// How long a note of the kernel's is withheld: as long as a kill needs to come, and too
/// short for anybody to call the server dead.
constexpr useconds_t kLateUs = 4000;

unsigned shown(const mmsghdr& message) {
  return *static_cast<const volatile unsigned*>(&message.msg_len);
}

void show(mmsghdr& message, unsigned length) {
  *static_cast<volatile unsigned*>(&message.msg_len) = length;
}

/// Makes the call; one in `every` is noted late. Volatile, as another process may read
/// the notes after this one was killed.
template <class Call>
int note_late(unsigned long every, mmsghdr* messages, unsigned count, const Call& call) {
  static unsigned long calls = 0;
  std::vector<unsigned> before;
  for (unsigned i = 0; i < count; ++i) before.push_back(shown(messages[i]));
  const int result = call();
  if (every == 0 || result <= 0 || ++calls % every != 0) return result;
  std::vector<unsigned> noted;
  for (unsigned i = 0; i < count; ++i) {
    noted.push_back(shown(messages[i]));
    show(messages[i], before[i]);
  }
  ::usleep(kLateUs);
  for (unsigned i = 0; i < count; ++i) show(messages[i], noted[i]);
  return result;
}

/// The transaction that was called committed and is not. LMDB allows one write
/// transaction at a time, so there is never a second.
MDB_txn* put_off = nullptr;

int commit_put_off() {
  static const auto real = next(&mdb_txn_commit, "mdb_txn_commit");
  MDB_txn* const txn = put_off;
  put_off = nullptr;
  return txn == nullptr ? 0 : real(txn);
}

}  // namespace

extern "C" {

int mdb_txn_commit(MDB_txn* txn) {
  static const auto real = next(&mdb_txn_commit, "mdb_txn_commit");
  if (!is_late()) return real(txn);
  const int error = commit_put_off();
  put_off = txn;
  return error;
}

int mdb_txn_begin(MDB_env* env, MDB_txn* parent, unsigned flags, MDB_txn** txn) {
  static const auto real = next(&mdb_txn_begin, "mdb_txn_begin");
  const int error = commit_put_off();
  return error != 0 ? error : real(env, parent, flags, txn);
}

int mdb_env_set_mapsize(MDB_env* env, size_t size) {
  static const auto real = next(&mdb_env_set_mapsize, "mdb_env_set_mapsize");
  const int error = commit_put_off();  // it wants that there is none
  return error != 0 ? error : real(env, size);
}

void mdb_env_close(MDB_env* env) {
  static const auto real = next(&mdb_env_close, "mdb_env_close");
  commit_put_off();
  real(env);
}

int mdb_put(MDB_txn* txn, MDB_dbi dbi, MDB_val* key, MDB_val* data, unsigned flags) {
  static const auto real = next(&mdb_put, "mdb_put");
  return is_dropped(*key, flags) ? 0 : real(txn, dbi, key, data, flags);
}

int mdb_cursor_put(MDB_cursor* cursor, MDB_val* key, MDB_val* data, unsigned flags) {
  static const auto real = next(&mdb_cursor_put, "mdb_cursor_put");
  return is_dropped(*key, flags) ? 0 : real(cursor, key, data, flags);
}

int xenevtchn_notify(xenevtchn_handle* handle, evtchn_port_t port) {
  static const auto real = next(&xenevtchn_notify, "xenevtchn_notify");
  static const unsigned long lost = number_of("notify");
  static std::map<evtchn_port_t, unsigned long> sent;
  return has_past && ++sent[port] <= lost ? 0 : real(handle, port);
}

int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  static const auto real = next(&sendmmsg, "sendmmsg");
  static const unsigned long every = number_of("sent");
  return note_late(every, messages, count, [&] { return real(fd, messages, count, flags); });
}

int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  static const auto real = next(&recvmmsg, "recvmmsg");
  static const unsigned long every = number_of("received");
  return note_late(every, messages, count,
                   [&] { return real(fd, messages, count, flags, timeout); });
}

}  // extern "C"
