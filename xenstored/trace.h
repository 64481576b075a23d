// SPDX-License-Identifier: MIT
/// The access trace: one line for each request, reply and watch event, in the
/// form of C xenstored 4.17, so that what people grep for still matches:
///
///   IN 0x1f 20240131 23:59:58 WRITE (data/x hello) tx 7
///   OUT 0x1f 20240131 23:59:58 WRITE (OK ) tx 7
///   CREATE connection 0x1f
///
/// In place of a pointer stands our id in hex; " tx <id>" follows the payload
/// where a transaction is named (4.17 has none). NUL is shown as space, other
/// unprintable bytes as log::escaped does: a guest cannot forge lines.
///
/// Lines are collected and written by flush(), once a turn. While the trace is
/// off each call costs one branch.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

#include "store/ids.h"
#include "store/result.h"
#include "xenstored/unique_fd.h"

namespace xenstored {

class Trace {
 public:
  Trace() = default;
  ~Trace() { flush(); }
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /// Traces to `path` (created 0600, appended to) from now on. Error: errno, and
  /// the trace is off; the name is kept for turn_on() and reopen().
  store::Result<void, int> open(const std::string& path);
  /// -N -V: traces to standard output.
  void open_stdout();
  /// XS_CONTROL log on: opens the file named last; with none named nothing happens.
  store::Result<void, int> turn_on();
  /// XS_CONTROL log off.
  void turn_off();
  /// SIGHUP: the file may have been rotated away. Nothing while off.
  store::Result<void, int> reopen();
  bool is_on() const { return is_on_; }
  /// The file named last; empty if none, or for standard output.
  const std::string& path() const { return path_; }

  void in(store::ConnId conn, std::uint32_t type, store::TxId tx, std::string_view payload) {
    if (is_on_) [[unlikely]]
      message("IN", conn, type, tx, payload);
  }
  void out(store::ConnId conn, std::uint32_t type, store::TxId tx, std::string_view payload) {
    if (is_on_) [[unlikely]]
      message("OUT", conn, type, tx, payload);
  }
  /// An event that was not sent, since its like is waiting to be.
  void merged(store::ConnId conn, std::uint32_t type, std::string_view payload) {
    if (is_on_) [[unlikely]]
      message("MERGED", conn, type, store::kNoTx, payload);
  }
  /// `what`: "connection", "watch" or "transaction".
  void create(std::string_view what, std::uint64_t id) {
    if (is_on_) [[unlikely]]
      object("CREATE", what, id);
  }
  void destroy(std::string_view what, std::uint64_t id) {
    if (is_on_) [[unlikely]]
      object("DESTROY", what, id);
  }
  /// XS_CONTROL print: a line of the operator's.
  void print(std::string_view text);

  /// Writes what was collected. What cannot be written is dropped: a full disk
  /// must not stop the store.
  void flush() {
    if (!buffer_.empty()) [[unlikely]]
      write_out();
  }

 private:
  void message(std::string_view direction, store::ConnId conn, std::uint32_t type, store::TxId tx,
               std::string_view payload);
  void object(std::string_view verb, std::string_view what, std::uint64_t id);
  void end_line();
  void write_out();
  std::string_view time_text();

  bool is_on_ = false;
  std::string path_;
  UniqueFd fd_;
  std::string buffer_;
  std::time_t second_ = -1;  ///< the second that second_text_ shows
  std::string second_text_;
};

}  // namespace xenstored
