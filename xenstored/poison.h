// SPDX-License-Identifier: MIT
/// Remembers across restarts which request was being executed when the server
/// died, so that a request that kills the server is not executed for ever.
///
/// `area/poison.map` is mapped shared: notes are plain stores and outlive the
/// process. A death counts against the noted request when it came by a fatal
/// signal of the server's own thread (SEGV, BUS, ABRT, ILL, FPE), or without one
/// while the kernel's OOM killer had struck since the start. A plain SIGKILL
/// counts against nobody. Two deaths make a request poisoned: it is refused, and
/// saved under `area/poisoned/` (the last 32). One that executes well is cleared.
///
/// Deaths by a fault of the second thread (history) are counted apart: two in a row, and
/// history is left out until the next start.
///
/// A request is the same when domain, operation and payload are the same; a
/// domain can therefore only ever spoil its own requests. The file is not trusted:
/// whatever does not make sense in it is dropped.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "store/ids.h"

namespace xenstored {

struct PoisonMap;  ///< the layout of the file, in poison.cc

class PoisonGuard {
 public:
  /// Call in the thread that executes requests, with the area's lock held. Judges
  /// the note of the previous server and installs the signal handlers (one guard a
  /// process). A file that cannot be used is logged; the guard then forgets at
  /// the process's end but works otherwise.
  explicit PoisonGuard(const std::string& area);
  ~PoisonGuard();
  PoisonGuard(const PoisonGuard&) = delete;
  PoisonGuard& operator=(const PoisonGuard&) = delete;

  /// Must this request be refused (EIO)? The first time it is also saved and logged.
  bool is_poisoned(store::Domid domid, std::uint32_t op, std::string_view payload) {
    return suspects_ != 0 && look_up(domid, op, payload);
  }
  /// Notes the request about to be executed. One copy of the payload.
  void note(store::Domid domid, std::uint32_t op, std::string_view payload);
  /// The noted request was executed: the note is void, and a suspect is cleared.
  void done() {
    if (suspects_ != 0) clear_suspect();
    note_state_->store(0, std::memory_order_relaxed);
  }

  /// How often in a row the thread that does not execute requests ended the server.
  std::uint32_t other_deaths() const;
  /// Its work goes on, or is not tried: the count begins anew.
  void forget_other_deaths();

 private:
  bool look_up(store::Domid domid, std::uint32_t op, std::string_view payload);
  void clear_suspect();
  void judge_previous_server();
  void save(const std::string& name, store::Domid domid, std::uint32_t op,
            std::string_view payload);

  std::string area_;
  PoisonMap* map_ = nullptr;
  std::atomic<std::uint32_t>* note_state_ = nullptr;
  std::uint32_t suspects_ = 0;  ///< entries in use in the map's table
};

}  // namespace xenstored
