// SPDX-License-Identifier: MIT
#include "xenstored/server.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <vector>

#include "journal/journal.h"
#include "xenstored/daemon.h"
#include "xenstored/log.h"
#include "xenstored/poison.h"
#include "xenstored/trace.h"

namespace xenstored {
namespace {

using JournalPtr = std::unique_ptr<journal::Journal>;

void log_notes(std::vector<std::string>& notes) {
  for (const std::string& note : notes) log::warn(note);
  notes.clear();
}

/// Opens the area; state that is damaged is put aside, loudly, once.
store::Result<JournalPtr, int> open_journal(const journal::Options& options) {
  std::vector<std::string> notes;
  auto opened = journal::Journal::open(options, notes);
  log_notes(notes);
  if (!opened.has_value() && opened.error().kind == journal::OpenError::Kind::kDamaged) {
    log::error(opened.error().message);
    const auto aside = journal::Journal::set_aside(options, notes);
    log_notes(notes);
    if (aside.has_value()) opened = journal::Journal::open(options, notes);
    log_notes(notes);
  }
  if (opened.has_value()) return std::move(opened.value());
  log::error(opened.error().message);
  const bool may_retry = opened.error().kind == journal::OpenError::Kind::kSystem ||
                         opened.error().kind == journal::OpenError::Kind::kDamaged;
  return tl::unexpected(may_retry ? kExitFailed : kExitRefused);
}

void start_trace(const Options& options, Trace& trace) {
  if (options.foreground && options.verbose) {
    trace.open_stdout();
  } else if (!options.trace_file.empty() && !trace.open(options.trace_file).has_value()) {
    log::warn("cannot write the trace file " + options.trace_file);
  }
}

/// The signals that we answer come through a descriptor, in their turn.
UniqueFd signal_source() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return UniqueFd(signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
}

void answer_signals(int fd, Trace& trace, bool& stop) {
  signalfd_siginfo info;
  while (read(fd, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo != SIGHUP) {
      stop = true;
      continue;
    }
    log::reopen();
    if (!trace.reopen().has_value()) log::warn("cannot reopen the trace file");
  }
}

}  // namespace

int run_server(const Options& options, ServerStart start) {
  const UniqueFd signals = signal_source();
  journal::Options area;
  area.area = options.area;
  auto journal = open_journal(area);
  if (!journal.has_value()) return journal.error();

  PoisonGuard poison(options.area);
  Trace trace;
  start_trace(options, trace);
  AnyDomain any_domain;
  auto daemon = std::make_unique<Daemon>(options, *journal.value(), poison, trace,
                                         start.oracle != nullptr ? *start.oracle : any_domain);
  if (auto recovered = daemon->recover(); !recovered.has_value()) {
    log::error("the state cannot be used: " + recovered.error());
    daemon.reset();
    journal.value().reset();
    std::vector<std::string> notes;
    const auto aside = journal::Journal::set_aside(area, notes);
    log_notes(notes);
    return aside.has_value() ? kExitFailed : kExitRefused;
  }

  bool stop = false;
  daemon->add_source(signals.get(), [&] { answer_signals(signals.get(), trace, stop); });
  daemon->listen(start.listen_fd);
  if (start.prepare) start.prepare(*daemon);
  start.on_ready();
  while (!stop) daemon->turn();
  daemon->flush();
  log::info("stopped; the state stays in " + options.area);
  return 0;
}

}  // namespace xenstored
