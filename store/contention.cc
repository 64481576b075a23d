// SPDX-License-Identifier: MIT
#include "store/contention.h"

#include <algorithm>

namespace store {

void Contention::lost(ConnId conn, std::string_view path, Time now) {
  Loser& loser = losers_[conn];
  if (loser.path != path) {
    leave_queue(conn, loser);
    loser.path = path;
  }
  loser.since = now;
}

void Contention::leave_queue(ConnId conn, Loser& loser) {
  if (!loser.queued) return;
  loser.queued = false;
  const auto queue = queues_.find(loser.path);
  std::erase(queue->second.order, conn);
  if (queue->second.order.empty() && !queue->second.taken) queues_.erase(queue);
}

bool Contention::may_start(ConnId conn, Time now) {
  if (losers_.empty()) return true;
  const auto found = losers_.find(conn);
  if (found == losers_.end() || has_turn(conn)) return true;
  Loser& loser = found->second;
  if (now >= loser.since + kMemory && !loser.queued) {
    losers_.erase(found);
    return true;
  }
  if (now < loser.no_turn_before) return true;
  Queue& queue = queues_[loser.path];
  if (queue.taken || (!loser.queued && !queue.order.empty())) {
    if (!loser.queued) queue.order.push_back(conn);
    loser.queued = true;
    return false;
  }
  if (loser.queued) std::erase(queue.order, conn);
  loser.queued = false;
  queue.taken = true;
  turns_.emplace(conn, Turn{loser.path, now + kTurnMax, {}});
  return true;
}

void Contention::wait_for(ConnId conn, ConnId holder) { turns_.at(holder).waiting.push_back(conn); }

/// Those held back go first: they were ready before the next in the queue.
void Contention::end_turn(ConnId conn, std::vector<ConnId>& wake) {
  const auto turn = turns_.find(conn);
  if (turn == turns_.end()) return;
  wake.insert(wake.end(), turn->second.waiting.begin(), turn->second.waiting.end());
  const auto queue = queues_.find(turn->second.path);
  queue->second.taken = false;
  if (queue->second.order.empty()) {
    queues_.erase(queue);
  } else {
    call(queue->second, wake);
  }
  turns_.erase(turn);
}

/// All of them, in their order: the first may be unable to go on.
void Contention::call(const Queue& queue, std::vector<ConnId>& wake) {
  wake.insert(wake.end(), queue.order.begin(), queue.order.end());
}

void Contention::finished(ConnId conn, std::vector<ConnId>& wake) { end_turn(conn, wake); }

void Contention::gone(ConnId conn, std::vector<ConnId>& wake) {
  end_turn(conn, wake);
  const auto found = losers_.find(conn);
  if (found == losers_.end()) return;
  leave_queue(conn, found->second);
  losers_.erase(found);
}

Contention::Time Contention::expire(Time now, std::vector<ConnId>& wake) {
  Time next = 0;
  std::vector<ConnId> late;
  for (const auto& [conn, turn] : turns_) {
    if (turn.until <= now) {
      late.push_back(conn);
    } else if (next == 0 || turn.until < next) {
      next = turn.until;
    }
  }
  for (const auto& [path, queue] : queues_) {
    if (!queue.taken) call(queue, wake);
  }
  for (const ConnId conn : late) {
    losers_[conn].no_turn_before = now + kPenalty;
    end_turn(conn, wake);
  }
  const bool is_any_called = std::any_of(queues_.begin(), queues_.end(),
                                         [](const auto& queue) { return !queue.second.taken; });
  if (is_any_called && (next == 0 || now + kTurnMax < next)) next = now + kTurnMax;
  return next;
}

}  // namespace store
