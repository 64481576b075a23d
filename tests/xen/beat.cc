// SPDX-License-Identifier: MIT
/// Runs in a guest, and in dom0 beside the daemon: talks to xenstore through /dev/xen/xenbus all
/// the time and checks every answer. It ends at nothing; what went wrong is counted.
///
///   beat DIR     DIR: the node below which it works, `data` in a guest (relative to its home)
///   beat --ask   for scripts that look often: requests as lines, answers as lines
///
/// | node | |
/// |---|---|
/// | DIR/beat | a counter, written, read back, and counted up in a transaction now and then |
/// | DIR/pace | milliseconds between two beats, set by dom0; else $PACE, else 250 |
/// | DIR/ping | watched: what dom0 writes there is written to DIR/pong |
/// | DIR/worst | with each pong: the longest a request took since the last one, in microseconds |
/// | DIR/wrong | with each pong: wrong answers, strange frames and lost replies so far |
/// | DIR/run | watched: "ID COMMAND" is run by a shell; DIR/result becomes "ID STATUS OUTPUT" |
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <xen/io/xs_wire.h>  // wants the integers' names

namespace {

using Clock = std::chrono::steady_clock;

struct Frame {
  xsd_sockmsg header;
  std::string payload;
  bool is(const char* error) const {
    return header.type == XS_ERROR && payload.c_str() == std::string(error);
  }
};

class Beat {
 public:
  explicit Beat(std::string dir) : dir_(std::move(dir)), fd_(::open("/dev/xen/xenbus", O_RDWR)) {
    if (fd_ < 0) die("cannot open /dev/xen/xenbus");
  }

  /// `OP PATH [VALUE]` is answered "ok VALUE" or "error NAME".
  void answer_lines() {
    for (std::string line; std::getline(std::cin, line);) {
      const auto op_end = line.find(' ');
      const std::string op = line.substr(0, op_end);
      std::string payload = line.substr(op_end + 1);
      const auto value_at = payload.find(' ');
      if (value_at != std::string::npos) payload[value_at] = '\0';
      if (op != "write") payload += '\0';
      const Frame frame = ask(op == "read"    ? XS_READ
                              : op == "write" ? XS_WRITE
                              : op == "list"  ? XS_DIRECTORY
                                              : XS_RM,
                              payload);
      std::string text = frame.payload;
      if (frame.header.type != XS_READ && text.ends_with('\0')) text.pop_back();
      std::replace(text.begin(), text.end(), '\0', ' ');
      std::replace(text.begin(), text.end(), '\n', ' ');
      std::cout << (frame.header.type == XS_ERROR ? "error " : "ok ") << text << std::endl;
    }
  }

  [[noreturn]] void run() {
    has_moved();
    watch("ping");
    watch("run");
    for (long count = 1;; ++count) {
      const std::string value = std::to_string(count);
      write("beat", value);
      const std::string beat = read("beat");
      if (beat != value) {
        if (has_moved()) continue;  // it is not there to be read in the transaction either
        wrong("beat " + value + " was written, '" + beat + "' read");
      }
      if (count % 8 == 0) commit(value);
      answer_events();
      wait(pace());
    }
  }

 private:
  [[noreturn]] static void die(const char* what) {
    std::perror(what);
    std::exit(1);
  }

  void wrong(const std::string& what) {
    ++wrong_;
    std::printf("beat: WRONG: %s\n", what.c_str());
    std::fflush(stdout);
  }

  std::string node(const std::string& name) const { return dir_ + "/" + name; }

  void receive(void* to, std::size_t size) {
    for (auto* at = static_cast<char*>(to); size > 0;) {
      const ssize_t bytes = ::read(fd_, at, size);
      if (bytes <= 0) die("cannot read /dev/xen/xenbus");
      at += bytes;
      size -= static_cast<std::size_t>(bytes);
    }
  }

  Frame receive() {
    Frame frame;
    receive(&frame.header, sizeof frame.header);
    frame.payload.resize(frame.header.len);
    receive(frame.payload.data(), frame.payload.size());
    return frame;
  }

  Frame ask(std::uint32_t type, const std::string& payload, std::uint32_t tx = 0) {
    const auto began = Clock::now();
    const xsd_sockmsg header{type, ++last_id_, tx, static_cast<std::uint32_t>(payload.size())};
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes += payload;
    if (::write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      die("cannot write /dev/xen/xenbus");
    for (;;) {
      Frame frame = receive();
      if (frame.header.type == XS_WATCH_EVENT) {
        events_.push_back(frame.payload);
        continue;
      }
      worst_ = std::max(worst_, Clock::now() - began);
      if (frame.header.req_id != last_id_)
        wrong("the reply to request " + std::to_string(frame.header.req_id) + " came, not to " +
              std::to_string(last_id_));
      else if (frame.header.type != type && frame.header.type != XS_ERROR)
        wrong("a reply of another type");
      return frame;
    }
  }

  void expect_ok(const char* what, const Frame& frame) {
    if (frame.header.type == XS_ERROR) wrong(std::string(what) + ": " + frame.payload.c_str());
  }

  void write(const std::string& name, const std::string& value, std::uint32_t tx = 0) {
    expect_ok("WRITE", ask(XS_WRITE, node(name) + '\0' + value, tx));
  }

  /// Empty if there is none.
  std::string read(const std::string& name, std::uint32_t tx = 0) {
    Frame frame = ask(XS_READ, node(name) + '\0', tx);
    if (frame.header.type == XS_READ) return frame.payload;
    if (!frame.is("ENOENT")) expect_ok("READ", frame);
    return {};
  }

  /// True once after this guest was saved and restored, or migrated: it is another domain then,
  /// with none of the keys it wrote.
  bool has_moved() {
    const std::string domid = ask(XS_READ, std::string("domid\0", 6)).payload;
    return std::exchange(domid_, domid) != domid;
  }

  void watch(const std::string& name) {
    expect_ok("WATCH", ask(XS_WATCH, node(name) + '\0' + name + '\0'));
  }

  /// Reads and writes in a transaction. EAGAIN is no error, and the transaction is run again.
  /// One that was open while the guest moved is none any more: Linux says ENOENT or EAGAIN.
  void commit(const std::string& value) {
    for (;;) {
      const Frame start = ask(XS_TRANSACTION_START, std::string(1, '\0'));
      expect_ok("TRANSACTION_START", start);
      const auto tx = static_cast<std::uint32_t>(std::strtoul(start.payload.c_str(), nullptr, 10));
      const std::string beat = read("beat", tx);
      const Frame written = ask(XS_WRITE, node("committed") + '\0' + value, tx);
      const Frame end = ask(XS_TRANSACTION_END, std::string("T\0", 2), tx);
      if (has_moved()) return;
      if (beat != value) wrong("beat " + value + " is '" + beat + "' in a transaction");
      expect_ok("WRITE in a transaction", written);
      if (end.is("EAGAIN")) continue;
      expect_ok("TRANSACTION_END", end);
      if (read("committed") != value && !has_moved()) wrong("a commit is not there");
      return;
    }
  }

  void answer_events() {
    for (; !events_.empty(); events_.erase(events_.begin())) {
      // Path and token, each ended by NUL.
      const std::string token = events_.front().c_str() + events_.front().find('\0') + 1;
      if (token.c_str() == std::string("ping"))
        pong();
      else if (token.c_str() == std::string("run"))
        run_command();
      else
        wrong("an event for nobody");
    }
  }

  void pong() {
    const std::string ping = read("ping");
    if (ping.empty()) return;
    using std::chrono::microseconds;
    write("worst", std::to_string(std::chrono::duration_cast<microseconds>(worst_).count()));
    worst_ = {};
    write("wrong", std::to_string(wrong_));
    write("pong", ping);
  }

  void run_command() {
    const std::string asked = read("run");
    const auto space = asked.find(' ');
    if (space == std::string::npos) return;
    const std::string id = asked.substr(0, space);
    if (id == last_run_) return;  // the same event may come twice
    last_run_ = id;
    std::FILE* const output = ::popen(("exec 2>&1; " + asked.substr(space + 1)).c_str(), "r");
    if (output == nullptr) return wrong("popen");
    std::array<char, 1000> text;
    std::string said(text.data(), std::fread(text.data(), 1, text.size(), output));
    if (said.ends_with('\n')) said.pop_back();
    const int status = ::pclose(output);
    write("result", id + " " + std::to_string(status) + " " + said);
  }

  int pace() {
    const std::string text = read("pace");
    return text.empty() ? usual_pace_ : std::atoi(text.c_str());
  }

  /// An event ends the wait; it is taken in by the next request's answer.
  void wait(int milliseconds) {
    if (milliseconds == 0 || !events_.empty()) return;
    pollfd poll{.fd = fd_, .events = POLLIN, .revents = 0};
    ::poll(&poll, 1, milliseconds);
  }

  std::string dir_;
  int fd_;
  std::string domid_;
  int usual_pace_ = std::getenv("PACE") != nullptr ? std::atoi(std::getenv("PACE")) : 250;
  std::uint32_t last_id_ = 0;
  long wrong_ = 0;
  Clock::duration worst_{};
  std::string last_run_;
  std::vector<std::string> events_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::string dir = argv[1];
  if (dir != "--ask") Beat(dir).run();
  Beat("").answer_lines();
}
