// SPDX-License-Identifier: MIT
/// A server for the keeper's tests: the real main.cc in front of something that
/// serves one-byte commands and can be told to die.
///
/// Each start adds a line to `<area>/starts`. If `<area>/start` says "die" or
/// "refuse", that is how it ends before serving.
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "xenstored/server.h"
#include "xenstored/unique_fd.h"

namespace xenstored {
namespace {

UniqueFd take_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  return UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC));
}

std::string first_word(const std::string& path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

void serve_one(int listen_fd, int hang_ups) {
  const UniqueFd client(::accept4(listen_fd, nullptr, nullptr, SOCK_CLOEXEC));
  char command = 0;
  if (::read(client.get(), &command, 1) != 1) return;
  if (command == 's') ::raise(SIGSEGV);
  if (command == 'x') ::_exit(7);
  const std::string answer = std::to_string(command == 'h' ? hang_ups : ::getpid());
  if (::write(client.get(), answer.data(), answer.size()) < 0) ::_exit(8);
}

}  // namespace

int run_server(const Options& options, const ServerStart& start) {
  std::ofstream(options.area + "/starts", std::ios::app) << ::getpid() << "\n";
  const std::string how = first_word(options.area + "/start");
  if (how == "die") ::_exit(9);
  if (how == "refuse") return kExitRefused;

  const UniqueFd signals = take_signals();
  start.on_ready();
  int hang_ups = 0;
  for (;;) {
    pollfd fds[] = {{start.listen_fd, POLLIN, 0}, {signals.get(), POLLIN, 0}};
    ::poll(fds, 2, -1);
    if ((fds[1].revents & POLLIN) != 0) {
      signalfd_siginfo info;
      if (::read(signals.get(), &info, sizeof(info)) != sizeof(info)) return kExitFailed;
      if (info.ssi_signo != SIGHUP) return 0;
      ++hang_ups;
    }
    if ((fds[0].revents & POLLIN) != 0) serve_one(start.listen_fd, hang_ups);
  }
}

}  // namespace xenstored
