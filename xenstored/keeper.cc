// SPDX-License-Identifier: MIT
#include "xenstored/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "xenstored/claim.h"
#include "xenstored/held_clients.h"
#include "xenstored/keeper_log.h"
#include "xenstored/sd_notify.h"
#include "xenstored/unique_fd.h"

namespace xenstored {
namespace {

/// How long a server may take to stop before it is killed. Killing is safe, only
/// less polite.
constexpr long kStopMs = 10'000;
constexpr long kPauseMaxMs = 1'000;
/// A first start that fails this often is given up; two deaths are what it takes
/// to isolate a request or domain that kills the server, so it must be several.
constexpr int kFirstStartTries = 8;

long now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<long>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

/// Answers the command that waits for the daemon: one byte, its exit code.
class StartReport {
 public:
  explicit StartReport(UniqueFd fd) : fd_(std::move(fd)) {}

  bool is_awaited() const { return fd_.valid(); }
  void tell(int exit_code) {
    const char byte = static_cast<char>(exit_code);
    // Whoever waited may be gone; the daemon is up all the same.
    if (fd_.valid()) [[maybe_unused]]
      const ssize_t written = ::write(fd_.get(), &byte, 1);
    fd_.reset();
  }

 private:
  UniqueFd fd_;
};

/// Everything that starting a server needs, made before the first start.
class ServerProgram {
 public:
  ServerProgram(int argc, char* argv[], const Inherited& fds) {
    char cwd[PATH_MAX];
    if (::getcwd(cwd, sizeof(cwd)) == nullptr) cwd[0] = '\0';
    kept_ = "--kept=" + std::to_string(fds.listen_fd) + "," + std::to_string(fds.ready_fd) + "," +
            std::to_string(fds.lock_fd) + "," + std::to_string(fds.channel_fd) + "," +
            std::to_string(fds.table_fd) + "," + cwd;
    argv_.push_back(argv[0]);
    argv_.push_back(kept_.data());
    argv_.insert(argv_.end(), argv + 1, argv + argc);
    argv_.push_back(nullptr);

    char path[PATH_MAX];
    const ssize_t length = ::readlink("/proc/self/exe", path, sizeof(path));
    if (length > 0) path_.assign(path, static_cast<std::size_t>(length));

    ::posix_spawn_file_actions_init(&actions_);
    // Onto itself: takes close-on-exec off in the child only.
    for (const int fd : {fds.listen_fd, fds.ready_fd, fds.lock_fd, fds.channel_fd, fds.table_fd}) {
      ::posix_spawn_file_actions_adddup2(&actions_, fd, fd);
    }
    set_attributes();
  }
  ~ServerProgram() {
    ::posix_spawnattr_destroy(&attributes_);
    ::posix_spawn_file_actions_destroy(&actions_);
  }
  ServerProgram(const ServerProgram&) = delete;
  ServerProgram& operator=(const ServerProgram&) = delete;

  /// Returns the pid, or -1 and sets errno.
  pid_t start() const {
    pid_t pid = -1;
    int error = spawn(path_.c_str(), pid);
    // The program's file is gone (an upgrade half way): our own image still is there.
    if (error != 0) error = spawn("/proc/self/exe", pid);
    errno = error;
    return error == 0 ? pid : -1;
  }

 private:
  void set_attributes() {
    ::posix_spawnattr_init(&attributes_);
    sigset_t signals;
    sigemptyset(&signals);
    ::posix_spawnattr_setsigmask(&attributes_, &signals);
    for (const int signal : {SIGHUP, SIGINT, SIGTERM, SIGCHLD, SIGPIPE}) {
      sigaddset(&signals, signal);
    }
    ::posix_spawnattr_setsigdefault(&attributes_, &signals);
    // A group of its own: a signal to the keeper's group or terminal is for the
    // keeper to pass on, and its death is no reason for a hang-up.
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  int spawn(const char* path, pid_t& pid) const {
    return ::posix_spawn(&pid, path, &actions_, &attributes_, argv_.data(), environ);
  }

  std::string path_;
  std::string kept_;
  std::vector<char*> argv_;
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

/// The loop. It sleeps in poll on three descriptors: signals, the pipe in which a
/// server says that it serves, and the channel in which it hands over clients.
class Keeper {
 public:
  Keeper(const Options& options, const ServerProgram& program, int signal_fd, int ready_fd,
         ClientHolder& clients, StartReport& report)
      : options_(options),
        program_(program),
        signal_fd_(signal_fd),
        ready_fd_(ready_fd),
        clients_(clients),
        report_(report),
        log_(options.log_to) {}

  /// Returns the exit code.
  int run();
  bool was_ever_ready() const { return was_ever_ready_; }

 private:
  void wait();
  void take_ready();
  void take_signals();
  void begin_stop();
  void kill_if_overdue();
  /// The exit code, if this death ends the keeper.
  std::optional<int> reap();
  std::optional<int> judge_death(int status);
  void start_server();
  void first_time_ready();
  void log_death(int status, pid_t dead);

  const Options& options_;
  const ServerProgram& program_;
  const int signal_fd_;
  const int ready_fd_;
  ClientHolder& clients_;
  StartReport& report_;
  KeeperLog log_;

  pid_t server_ = -1;      ///< -1: none runs
  bool is_ready_ = false;  ///< this server has said that it serves
  bool was_ever_ready_ = false;
  bool is_stopping_ = false;
  long ready_ms_ = 0;  ///< when it said so
  int failures_ = 0;   ///< deaths before serving, or by themselves soon after, in a row
  unsigned long restarts_ = 0;
  long due_ms_ = 0;  ///< when to start the next server, or kill a stopping one
};

int Keeper::run() {
  start_server();
  for (;;) {
    wait();
    // First: a byte in the pipe is from the server that may have died since.
    take_ready();
    clients_.listen();
    take_signals();
    if (const auto exit_code = reap()) return *exit_code;
    if (is_stopping_) {
      if (server_ < 0) return 0;
      kill_if_overdue();
    } else if (server_ < 0 && now_ms() >= due_ms_) {
      start_server();
    }
  }
}

void Keeper::wait() {
  pollfd fds[] = {
      {signal_fd_, POLLIN, 0}, {ready_fd_, POLLIN, 0}, {clients_.channel_fd(), POLLIN, 0}};
  int timeout = -1;
  if (server_ < 0 || is_stopping_) {
    timeout = static_cast<int>(std::clamp(due_ms_ - now_ms(), 0L, kStopMs));
  }
  ::poll(fds, 3, timeout);
}

void Keeper::take_ready() {
  char byte;
  while (::read(ready_fd_, &byte, 1) == 1) {
    is_ready_ = true;
    ready_ms_ = now_ms();
    if (!was_ever_ready_) first_time_ready();
  }
}

void Keeper::first_time_ready() {
  was_ever_ready_ = true;
  if (options_.print_pid) {
    std::printf("%d\n", ::getpid());
    std::fflush(stdout);
  }
  if (!report_.is_awaited()) return;
  detach_stdio();
  log_.detached();
  report_.tell(0);
}

void Keeper::take_signals() {
  signalfd_siginfo info;
  while (::read(signal_fd_, &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) begin_stop();
    // A server that is still starting opens its files anew by itself.
    if (info.ssi_signo == SIGHUP && server_ > 0 && is_ready_) ::kill(server_, SIGHUP);
  }
}

void Keeper::begin_stop() {
  if (is_stopping_) return;
  is_stopping_ = true;
  due_ms_ = now_ms() + kStopMs;
  if (server_ > 0) ::kill(server_, SIGTERM);
  sd_notify("STOPPING=1");
}

void Keeper::kill_if_overdue() {
  if (now_ms() < due_ms_) return;
  log_.say(LOG_WARNING, "server %d does not stop; killing it", server_);
  ::kill(server_, SIGKILL);
  due_ms_ = now_ms() + kStopMs;
}

std::optional<int> Keeper::reap() {
  int status = 0;
  if (server_ < 0 || ::waitpid(server_, &status, WNOHANG) != server_) return std::nullopt;
  const pid_t dead = std::exchange(server_, -1);
  if (is_stopping_) return 0;
  const auto exit_code = judge_death(status);
  if (!exit_code && due_ms_ == 0) start_server();  // before the log: clients wait
  log_death(status, dead);
  if (exit_code && !was_ever_ready_) {
    log_.say(LOG_ERR, "the server could not be started; giving up");
  }
  return exit_code;
}

std::optional<int> Keeper::judge_death(int status) {
  // Where one has served before, guests wait, and what it refuses can be put right.
  const bool is_refused = WIFEXITED(status) && WEXITSTATUS(status) == kExitRefused;
  if (is_refused && !was_ever_ready_) return kExitRefused;
  // One that ends by itself would do it again at once, with what guests have asked.
  const bool has_failed = !is_ready_ || (WIFEXITED(status) && now_ms() - ready_ms_ < kPauseMaxMs);
  failures_ = has_failed ? failures_ + 1 : 0;
  if (!was_ever_ready_ && failures_ >= kFirstStartTries) return kExitFailed;
  due_ms_ = 0;
  if (failures_ > 1) {
    const long pause = failures_ > 8 ? kPauseMaxMs : std::min(10L << (failures_ - 2), kPauseMaxMs);
    due_ms_ = now_ms() + pause;
  }
  return std::nullopt;
}

void Keeper::start_server() {
  clients_.listen();  // what the dead one had still to say
  is_ready_ = false;
  server_ = program_.start();
  if (server_ < 0) {
    log_.say(LOG_ERR, "cannot start the server: %s", std::strerror(errno));
    due_ms_ = now_ms() + kPauseMaxMs;
  }
}

void Keeper::log_death(int status, pid_t dead) {
  char how[64];
  if (WIFSIGNALED(status)) {
    std::snprintf(how, sizeof(how), "was killed by signal %d (SIG%s)", WTERMSIG(status),
                  ::sigabbrev_np(WTERMSIG(status)));
  } else {
    std::snprintf(how, sizeof(how), "exited with code %d", WEXITSTATUS(status));
  }
  if (server_ > 0) {
    ++restarts_;
    log_.say(LOG_WARNING, "server %d %s; started server %d in its place (restart %lu)", dead, how,
             server_, restarts_);
  } else {
    log_.say(LOG_WARNING, "server %d %s", dead, how);
  }
}

/// Signals come through this descriptor, in order with everything else.
UniqueFd take_over_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGHUP, SIGINT, SIGTERM, SIGCHLD}) {
    sigaddset(&signals, signal);
    ::signal(signal, SIG_DFL);  // an ignored one (nohup, &) would never arrive
  }
  ::signal(SIGPIPE, SIG_IGN);
  ::sigprocmask(SIG_SETMASK, &signals, nullptr);
  return UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

/// In the process that becomes the keeper.
int keep(const Options& options, int argc, char* argv[], StartReport& report) {
  auto claim = Claim::take(options);
  if (!claim.has_value()) {
    std::fprintf(stderr, "xenstored: %s\n", claim.error().c_str());
    return kExitRefused;
  }
  int pipe_ends[2];
  const UniqueFd signal_fd = take_over_signals();
  if (!signal_fd.valid() || ::pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    std::fprintf(stderr, "xenstored: no descriptors left: %s\n", std::strerror(errno));
    return kExitFailed;
  }
  const UniqueFd ready_in(pipe_ends[0]);
  const UniqueFd ready_out(pipe_ends[1]);
  auto clients = ClientHolder::make();
  if (!clients.has_value()) {
    std::fprintf(stderr, "xenstored: %s\n", clients.error().c_str());
    return kExitFailed;
  }
  const ServerProgram program(
      argc, argv,
      {claim.value().socket.listen_fd(), ready_out.get(), claim.value().socket.lock_fd(),
       clients.value().server_channel_fd(), clients.value().table_fd()});
  if (!options.foreground && ::chdir("/") != 0) return kExitFailed;

  Keeper keeper(options, program, signal_fd.get(), ready_in.get(), clients.value(), report);
  const int exit_code = keeper.run();
  if (keeper.was_ever_ready()) ::unlink(options.server_pid_file().c_str());
  claim.value().give_up();
  return exit_code;
}

/// Forks twice: the daemon leads no session and so never gets a terminal.
/// Returns in the daemon; the caller's process waits for the report and ends.
void become_daemon(UniqueFd& report_in, UniqueFd& report_out) {
  const pid_t child = ::fork();
  if (child == 0) {
    report_in.reset();
    ::setsid();
    if (::fork() != 0) ::_exit(0);
    ::umask(027);
    return;
  }
  report_out.reset();
  if (child > 0) ::waitpid(child, nullptr, 0);
  char exit_code = kExitFailed;
  ssize_t got;
  do {
    got = ::read(report_in.get(), &exit_code, 1);
  } while (got < 0 && errno == EINTR);
  if (got != 1) std::fprintf(stderr, "xenstored: the daemon did not come up\n");
  ::_exit(exit_code);
}

}  // namespace

int run_keeper(const Options& options, int argc, char* argv[]) {
  UniqueFd report_in;
  UniqueFd report_out;
  if (!options.foreground) {
    int pipe_ends[2];
    if (::pipe2(pipe_ends, O_CLOEXEC) != 0) return kExitFailed;
    report_in.reset(pipe_ends[0]);
    report_out.reset(pipe_ends[1]);
    become_daemon(report_in, report_out);
  }
  StartReport report(std::move(report_out));
  const int exit_code = keep(options, argc, argv, report);
  report.tell(exit_code);
  return exit_code;
}

void tell_keeper_ready(const Inherited& inherited) {
  const char byte = 1;
  // A keeper that is gone need not be told.
  [[maybe_unused]] const ssize_t written = ::write(inherited.ready_fd, &byte, 1);
}

void detach_stdio() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), fd);
}

}  // namespace xenstored
