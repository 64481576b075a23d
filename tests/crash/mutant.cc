// SPDX-License-Identifier: MIT
// libmutant.so, preloaded into a server to make it a bad one, so that the crash
// driver can be seen to notice. XS_MUTANT chooses:
//   late     replies before it commits: a commit says that it is done at once and
//            is really done when the next transaction begins;
//   drop=K   every K-th put says that it is done and does nothing.
#include <dlfcn.h>
#include <lmdb.h>

#include <cstdlib>
#include <cstring>

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

/// Whether this put is one to be dropped. A reserved value is written by the
/// caller afterwards, so there must be room for it.
bool is_dropped(unsigned flags) {
  static const unsigned long every =
      std::strncmp(mutation(), "drop=", 5) == 0 ? std::strtoul(mutation() + 5, nullptr, 10) : 0;
  static unsigned long count = 0;
  return every != 0 && (flags & MDB_RESERVE) == 0 && ++count % every == 0;
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

void mdb_env_close(MDB_env* env) {
  static const auto real = next(&mdb_env_close, "mdb_env_close");
  commit_put_off();
  real(env);
}

int mdb_put(MDB_txn* txn, MDB_dbi dbi, MDB_val* key, MDB_val* data, unsigned flags) {
  static const auto real = next(&mdb_put, "mdb_put");
  return is_dropped(flags) ? 0 : real(txn, dbi, key, data, flags);
}

int mdb_cursor_put(MDB_cursor* cursor, MDB_val* key, MDB_val* data, unsigned flags) {
  static const auto real = next(&mdb_cursor_put, "mdb_cursor_put");
  return is_dropped(flags) ? 0 : real(cursor, key, data, flags);
}

}  // extern "C"
