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
  if (!loser.queued && (queue.taken || !queue.order.empty())) {
    queue.order.push_back(conn);
    loser.queued = true;
  }
  if (queue.taken || (loser.queued && queue.order.front() != conn)) return false;
  if (loser.queued) queue.order.pop_front();
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
    wake.push_back(queue->second.order.front());
  }
  turns_.erase(turn);
}

void Contention::finished(ConnId conn, std::vector<ConnId>& wake) { end_turn(conn, wake); }

void Contention::gone(ConnId conn, std::vector<ConnId>& wake) {
  end_turn(conn, wake);
  const auto found = losers_.find(conn);
  if (found == losers_.end()) return;
  // It may have been called to its turn already: then the next one is.
  const bool was_queued = found->second.queued;
  const std::string path = found->second.path;
  leave_queue(conn, found->second);
  losers_.erase(found);
  const auto queue = queues_.find(path);
  if (was_queued && queue != queues_.end() && !queue->second.taken) {
    wake.push_back(queue->second.order.front());
  }
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
  for (const ConnId conn : late) {
    losers_[conn].no_turn_before = now + kPenalty;
    end_turn(conn, wake);
  }
  return next;
}

}  // namespace store
