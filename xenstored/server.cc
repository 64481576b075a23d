// SPDX-License-Identifier: MIT
#include "xenstored/server.h"

#include <malloc.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
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

/// Lets the heap grow by whole large pages (main.cc) for the tree that is loaded
/// next. Not before: LMDB's tables, seldom touched, would be cleared as part of it.
void take_large_steps() {
  constexpr int kStepBytes = 16 << 20;
  ::mallopt(M_TOP_PAD, kStepBytes);
}

/// Opens the area; state that is damaged is put aside, loudly, once: as `damaged`.
store::Result<JournalPtr, int> open_journal(const journal::Options& options,
                                            std::filesystem::path& damaged) {
  std::vector<std::string> notes;
  auto opened = journal::Journal::open(options, notes);
  log_notes(notes);
  if (!opened.has_value() && opened.error().kind == journal::OpenError::Kind::kDamaged) {
    log::error(opened.error().message);
    const auto aside = journal::Journal::set_aside(options, notes);
    log_notes(notes);
    if (aside.has_value()) {
      damaged = aside.value();
      opened = journal::Journal::open(options, notes);
    }
    log_notes(notes);
  }
  take_large_steps();
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
    if (!trace.reopen().has_value()) log::warn("cannot reopen the trace file " + trace.path());
  }
}

/// A daemon that has recovered. State that turns out not to be what was committed
/// is put aside, loudly, and an empty one begun: once, since that cannot fail so.
store::Result<std::unique_ptr<Daemon>, int> recovered_daemon(const Options& options,
                                                             const ServerStart& start, Trace& trace,
                                                             JournalPtr& journal,
                                                             std::unique_ptr<History>& history,
                                                             std::unique_ptr<PoisonGuard>& poison) {
  journal::Options area;
  area.area = options.area;
  std::filesystem::path damaged;
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto opened = open_journal(area, damaged);
    if (!opened.has_value()) return tl::unexpected(opened.error());
    journal = std::move(opened.value());
    if (!poison) poison = std::make_unique<PoisonGuard>(options.area);
    history = std::make_unique<History>(options, *journal, *poison, damaged);
    auto daemon = std::make_unique<Daemon>(options, *journal, *history, *poison, trace,
                                           start.hypervisor, start.clients);
    const auto recovered = daemon->recover();
    if (recovered.has_value()) return daemon;
    log::error("the state cannot be used: " + recovered.error());
    daemon.reset();
    history.reset();
    journal.reset();
    std::vector<std::string> notes;
    const auto aside = journal::Journal::set_aside(area, notes);
    log_notes(notes);
    if (!aside.has_value()) {
      log::error(aside.error().message);
      return tl::unexpected(kExitRefused);
    }
    damaged = aside.value();
  }
  return tl::unexpected(kExitFailed);
}

}  // namespace

int run_server(const Options& options, const ServerStart& start) {
  const UniqueFd signals = signal_source();
  Trace trace;
  start_trace(options, trace);
  JournalPtr journal;
  std::unique_ptr<History> history;
  std::unique_ptr<PoisonGuard> poison;
  auto recovered = recovered_daemon(options, start, trace, journal, history, poison);
  if (!recovered.has_value()) return recovered.error();
  const std::unique_ptr<Daemon> daemon = std::move(recovered.value());

  bool stop = false;
  daemon->add_source(signals.get(), [&] { answer_signals(signals.get(), trace, stop); });
  daemon->listen(start.listen_fd);
  start.on_ready();
  while (!stop) daemon->turn();
  daemon->flush();
  log::info("stopped; the state stays in " + options.area);
  return 0;
}

}  // namespace xenstored
