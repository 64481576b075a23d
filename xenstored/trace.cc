// SPDX-License-Identifier: MIT
#include "xenstored/trace.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <iterator>

#include "xenstored/log.h"
#include "xenstored/wire.h"

namespace xenstored {
namespace {

/// A turn that traces more than this is written in pieces.
constexpr std::size_t kBufferMax = 65536;

/// NUL separates the parts of a payload; 4.17 shows it as a space.
void append_payload(std::string& line, std::string_view payload) {
  while (!payload.empty()) {
    const auto nul = payload.find('\0');
    line += log::escaped(payload.substr(0, nul));
    if (nul == std::string_view::npos) return;
    line += ' ';
    payload.remove_prefix(nul + 1);
  }
}

}  // namespace

store::Result<void, int> Trace::open(const std::string& path) {
  path_ = path;
  return turn_on();
}

store::Result<void, int> Trace::turn_on() {
  turn_off();
  if (path_.empty()) return {};
  fd_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600));
  if (!fd_.valid()) return tl::unexpected(errno);
  is_on_ = true;
  return {};
}

void Trace::open_stdout() {
  turn_off();
  path_.clear();
  fd_.reset(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
  is_on_ = fd_.valid();
}

void Trace::turn_off() {
  flush();
  is_on_ = false;
  fd_.reset();
}

store::Result<void, int> Trace::reopen() {
  // Standard output has no name to open anew.
  if (!is_on_ || path_.empty()) return {};
  return turn_on();
}

void Trace::print(std::string_view text) {
  if (!is_on_) return;
  append_payload(buffer_, text);
  end_line();
}

void Trace::message(std::string_view direction, store::ConnId conn, std::uint32_t type,
                    store::TxId tx, std::string_view payload) {
  fmt::format_to(std::back_inserter(buffer_), "{} {:#x} {} {} (", direction, raw(conn), time_text(),
                 op_name(type));
  append_payload(buffer_, payload);
  buffer_ += ')';
  if (tx != store::kNoTx) fmt::format_to(std::back_inserter(buffer_), " tx {}", raw(tx));
  end_line();
}

void Trace::object(std::string_view verb, std::string_view what, std::uint64_t id) {
  fmt::format_to(std::back_inserter(buffer_), "{} {} {:#x}", verb, what, id);
  end_line();
}

void Trace::end_line() {
  buffer_ += '\n';
  if (buffer_.size() >= kBufferMax) write_out();
}

void Trace::write_out() {
  std::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd_.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  buffer_.clear();
}

std::string_view Trace::time_text() {
  const std::time_t now = std::time(nullptr);
  if (now != second_) {
    second_ = now;
    std::tm parts{};
    localtime_r(&now, &parts);
    char text[32];
    second_text_.assign(text, std::strftime(text, sizeof(text), "%Y%m%d %H:%M:%S", &parts));
  }
  return second_text_;
}

}  // namespace xenstored
