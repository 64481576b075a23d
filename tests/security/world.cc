// SPDX-License-Identifier: MIT
#include "tests/security/world.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

namespace security {

using simxen::Message;
using xenstored::Header;

namespace {

/// With ASan, freed memory must not be kept long: tests bound the daemon's memory.
constexpr const char* kAsanOptions =
    "verify_asan_link_order=0:quarantine_size_mb=1:thread_local_quarantine_size_kb=64:"
    "allocator_release_to_os_interval_ms=0";

[[noreturn]] void give_up(const std::string& what) {
  std::fprintf(stderr, "%s (%s)\n", what.c_str(), std::strerror(errno));
  std::abort();
}

std::string make_directory() {
  std::string name = "/dev/shm/xs.security.XXXXXX";
  if (mkdtemp(name.data()) == nullptr) give_up("no directory");
  return name;
}

std::string number_arg(std::uint64_t number) { return std::to_string(number) + '\0'; }

std::string content_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// The number behind `key` and whatever is no digit.
std::uint64_t number_after(const std::string& text, const std::string& key) {
  const std::size_t at = text.find(key);
  if (at == std::string::npos) return 0;
  const std::size_t begin = text.find_first_of("0123456789", at);
  return begin == std::string::npos ? 0 : std::strtoull(text.c_str() + begin, nullptr, 10);
}

/// Cuts the first whole message off `bytes`; false: there is none.
bool cut_message(std::string& bytes, Message& message) {
  Header header;
  if (bytes.size() < sizeof header) return false;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (bytes.size() < sizeof header + header.len) return false;
  message = {header.type, header.req_id, header.tx_id, bytes.substr(sizeof header, header.len)};
  bytes.erase(0, sizeof header + header.len);
  return true;
}

/// In the child: becomes the daemon.
[[noreturn]] void become_daemon(const std::string& dir, std::uint64_t stack_bytes) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // when a test aborts
  const int log = open((dir + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  if (stack_bytes != 0) {
    const rlimit limit{stack_bytes, stack_bytes};
    setrlimit(RLIMIT_STACK, &limit);
  }
  setenv("SIMXEN", (dir + "/machine").c_str(), 1);
  setenv("XENSTORED_RUNDIR", dir.c_str(), 1);
  setenv("LD_PRELOAD", SIMXEN_PRELOAD, 1);
  setenv("ASAN_OPTIONS", kAsanOptions, 1);
  execl(XENSTORED, XENSTORED, "-N", nullptr);
  _exit(127);
}

}  // namespace

std::string frame(Op op, std::string_view payload, std::uint32_t req, std::uint32_t tx) {
  const Header header{static_cast<std::uint32_t>(op), req, tx,
                      static_cast<std::uint32_t>(payload.size())};
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + std::string(payload);
}

bool eventually(const std::function<bool()>& is_so) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!is_so()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

std::string shown(const Message& reply) {
  if (reply.type != static_cast<std::uint32_t>(Op::kError)) return reply.payload;
  return reply.payload.substr(0, reply.payload.find('\0'));
}

Socket::Socket(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (!eventually([&] { return ::connect(fd_, generic, sizeof address) == 0; })) {
    give_up("nobody listens on " + path);
  }
  const timeval patience{20, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

Socket::~Socket() { close(fd_); }

void Socket::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) give_up("the daemon takes nothing");
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void Socket::receive_more() {
  char buffer[65536];
  const ssize_t count = recv(fd_, buffer, sizeof buffer, 0);
  if (count <= 0) give_up("nothing comes from the daemon");
  unread_.append(buffer, static_cast<std::size_t>(count));
}

Message Socket::receive() {
  Message message;
  while (!cut_message(unread_, message)) receive_more();
  return message;
}

std::string Socket::call(Op op, std::string_view payload, std::uint32_t tx) {
  send(frame(op, payload, 0, tx));
  for (;;) {
    Message message = receive();
    if (message.type != static_cast<std::uint32_t>(Op::kWatchEvent)) return shown(message);
    events_.push_back(std::move(message.payload));
  }
}

std::vector<std::string> Socket::take_events() { return std::exchange(events_, {}); }

World::World(std::uint64_t stack_bytes)
    : dir_(make_directory()),
      stack_bytes_(stack_bytes),
      machine_(simxen::Machine::make(dir_ + "/machine")) {
  start_daemon();
}

World::~World() {
  known_.clear();
  if (pid_ != 0) kill_daemon();
  if (HasFailure()) std::fputs(content_of(dir_ + "/log").c_str(), stderr);
  std::filesystem::remove_all(dir_);
}

void World::TearDown() {
  ASSERT_TRUE(is_alive());
  EXPECT_EQ(connect()->call(Op::kControl, "check\0"s), "OK\0"s);
  EXPECT_EQ(content_of(dir_ + "/log").find("Sanitizer"), std::string::npos);
}

void World::start_daemon() {
  pid_ = fork();
  if (pid_ == 0) become_daemon(dir_, stack_bytes_);
  toolstack_ = connect();
  ask(Op::kRead, "/\0"s);  // it serves
}

void World::kill_daemon() {
  toolstack_.reset();
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

void World::pause_daemon() {
  kill(pid_, SIGSTOP);
  int status = 0;
  waitpid(pid_, &status, WUNTRACED);
}

void World::resume_daemon() { kill(pid_, SIGCONT); }

bool World::is_alive() { return pid_ != 0 && waitpid(pid_, nullptr, WNOHANG) == 0; }

std::unique_ptr<Socket> World::connect() { return std::make_unique<Socket>(dir_ + "/socket"); }

std::string World::ask(Op op, std::string_view payload, std::uint32_t tx) {
  return toolstack_->call(op, payload, tx);
}

simxen::NewDomain World::create(std::uint16_t domid) {
  simxen::Uuid uuid{};
  ++lives_;
  uuid[0] = static_cast<std::uint8_t>(lives_);
  uuid[1] = static_cast<std::uint8_t>(lives_ >> 8);
  known_.erase(domid);
  return known_[domid].domain = machine_.create(domid, uuid);
}

std::string World::introduction(std::uint16_t domid) {
  const simxen::NewDomain domain = known_[domid].domain;
  return number_arg(domid) + number_arg(domain.gfn) + number_arg(domain.port);
}

std::string World::introduce(std::uint16_t domid) {
  return ask(Op::kIntroduce, introduction(domid));
}

void World::give_home(std::uint16_t domid) {
  const std::string home = "/local/domain/" + std::to_string(domid);
  EXPECT_EQ(ask(Op::kMkdir, home + '\0'), "OK\0"s);
  EXPECT_EQ(ask(Op::kSetPerms, home + "\0n"s + number_arg(domid)), "OK\0"s);
}

void World::add(std::uint16_t domid) {
  create(domid);
  EXPECT_EQ(introduce(domid), "OK\0"s);
  give_home(domid);
}

void World::end(std::uint16_t domid) {
  known_[domid].guest.reset();
  machine_.destroy({domid});
  EXPECT_TRUE(eventually([&] { return !is_introduced(domid); }));
}

bool World::is_introduced(std::uint16_t domid) {
  return ask(Op::kIsDomainIntroduced, number_arg(domid)) == "T\0"s;
}

SimpleClient& World::guest(std::uint16_t domid) {
  auto& guest = known_[domid].guest;
  if (!guest) guest = std::make_unique<SimpleClient>(machine_, domid);
  return *guest;
}

std::string World::ask(std::uint16_t domid, Op op, std::string_view payload, std::uint32_t tx) {
  return shown(guest(domid).call(static_cast<std::uint32_t>(op), payload, tx));
}

std::uint64_t World::usage(std::uint16_t domid, const std::string& what) {
  return number_after(ask(Op::kControl, "quota\0"s + number_arg(domid)), what);
}

std::uint64_t World::report(const std::string& what) {
  const std::string file = dir_ + "/report";
  std::filesystem::remove(file);
  EXPECT_EQ(ask(Op::kControl, "memreport\0"s + file + '\0'), "OK\0"s);
  return number_after(content_of(file), what);
}

std::uint64_t World::anonymous_kb() {
  return number_after(content_of("/proc/" + std::to_string(pid_) + "/status"), "RssAnon");
}

}  // namespace security
