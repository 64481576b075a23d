// SPDX-License-Identifier: MIT
#include "tools/crash/traffic.h"

#include <algorithm>
#include <array>
#include <cstdlib>

namespace crash {
namespace {

constexpr std::array<std::size_t, 5> kWindows = {1, 2, 4, 8, 16};
constexpr std::size_t kOutpostsMax = 6;
constexpr unsigned kAbandonedMax = 2;
constexpr unsigned kFreeWhileStartingMax = 3;
constexpr std::size_t kSmallValue = 60;

std::uint32_t id_in(const Frame& frame) {
  return static_cast<std::uint32_t>(std::strtoul(frame.payload.c_str(), nullptr, 10));
}

}  // namespace

RandomTraffic::RandomTraffic(Region region, std::uint64_t seed)
    : region_(std::move(region)), random_(seed * 1000 + region_.client) {}

void RandomTraffic::connected(const Tree& found) {
  window_ = kWindows[below(kWindows.size())];
  phase_ = Phase::kIdle;
  planned_.clear();
  abandoned_ = 0;
  outposts_.clear();
  const auto directory = found.find(std::string(kOutposts));
  if (directory == found.end()) return;
  for (const std::string& name : directory->second.children) {
    const std::string path = std::string(kOutposts) + "/" + name;
    if (path.starts_with(region_.outpost_prefix)) outposts_.push_back(path);
  }
}

// Few names, so that requests meet: about 40 nodes on three levels.
std::string RandomTraffic::some_path() {
  std::string path = region_.root + "/" + "abcd"[below(4)];
  if (one_in(3)) return path;
  path = path + "/" + "efg"[below(3)];
  if (one_in(2)) return path;
  return path + "/" + "hi"[below(2)];
}

std::string RandomTraffic::some_side_path() { return region_.side + "/" + "xyz"[below(3)]; }

std::string RandomTraffic::fresh_value() {
  std::string value = "v" + std::to_string(region_.client) + "." + std::to_string(++values_) + ".";
  std::size_t size = below(kSmallValue);
  if (one_in(25)) size = xenstored::kPayloadMax - kSmallValue;
  if (one_in(100)) size = xenstored::kPayloadMax - kSmallValue + below(20);
  // Any byte is allowed in a value, NUL too.
  while (value.size() < size) value.push_back(static_cast<char>(random_()));
  return value;
}

std::vector<std::string> RandomTraffic::some_perms() {
  const std::string letter(1, "nrwb"[below(4)]);
  std::string owner = "0";
  if (one_in(2)) owner = std::to_string(region_.first_domid + below(kDomainsPerClient));
  std::vector<std::string> perms = {letter + owner};
  for (std::uint64_t more = below(4); more > 0; --more)
    perms.push_back(std::string(1, "nrwb"[below(4)]) + std::to_string(below(2000)));
  return perms;
}

std::optional<Request> RandomTraffic::next() {
  switch (phase_) {
    case Phase::kIdle:
      return idle_request();
    case Phase::kStarting:
    case Phase::kCounting:
      return free_request();
    case Phase::kInside:
      if (one_in(6)) {
        if (std::optional<Request> request = free_request()) return request;
      }
      return take_planned();
  }
  return {};
}

// While a reply must come first only free paths and registers may change.
std::optional<Request> RandomTraffic::free_request() {
  if (++free_while_starting_ > kFreeWhileStartingMax) return {};
  if (one_in(2)) return write_request(some_side_path(), fresh_value());
  return one_in(2) ? shared_request() : outpost_request();
}

Request RandomTraffic::idle_request() {
  free_while_starting_ = 0;
  const std::uint64_t dice = below(100);
  if (dice < 30) return write_request(some_path(), fresh_value());
  if (dice < 38) return path_request(Op::kMkdir, some_path());
  if (dice < 46) return path_request(Op::kRm, some_path());
  if (dice < 54) return set_perms_request(some_path(), some_perms());
  if (dice < 62) return path_request(Op::kRead, some_path());
  if (dice < 66) return path_request(Op::kDirectory, some_path());
  if (dice < 70) return path_request(Op::kGetPerms, some_path());
  if (dice < 73) return write_request(some_side_path(), fresh_value());
  if (dice < 76)
    return watch_request(one_in(3) ? Op::kUnwatch : Op::kWatch,
                         one_in(2) ? region_.root : some_path(), "t");
  if (dice < 88) {
    phase_ = Phase::kStarting;
    return start_request();
  }
  if (dice < 96) return shared_request();
  return one_in(2) ? outpost_request() : perms_request();
}

Request RandomTraffic::shared_request() {
  if (one_in(3))
    return path_request(Op::kRead, register_path(static_cast<unsigned>(below(kRegisters))));
  return write_request(register_path(static_cast<unsigned>(below(kRegisters))), fresh_value());
}

Request RandomTraffic::outpost_request() {
  if (outposts_.size() >= kOutpostsMax) {
    const std::size_t victim = below(outposts_.size());
    const std::string path = outposts_[victim];
    outposts_.erase(outposts_.begin() + static_cast<std::ptrdiff_t>(victim));
    return path_request(Op::kRm, path);
  }
  outposts_.push_back(region_.outpost_prefix + std::to_string(++outposts_made_));
  return one_in(2) ? path_request(Op::kMkdir, outposts_.back())
                   : write_request(outposts_.back(), fresh_value());
}

Request RandomTraffic::perms_request() {
  const unsigned domid = region_.first_domid + static_cast<unsigned>(below(kDomainsPerClient));
  if (one_in(4)) return domain_request(Op::kIsDomainIntroduced, domid);
  return one_in(3) ? domain_request(Op::kRelease, domid) : introduce_request(domid);
}

std::optional<Request> RandomTraffic::take_planned() {
  if (planned_.empty()) return {};
  Request request = planned_.front();
  planned_.pop_front();
  if (planned_.empty()) phase_ = Phase::kIdle;
  if (plan_ == Plan::kCount && request.op == Op::kRead) phase_ = Phase::kCounting;
  return request;
}

Request RandomTraffic::inside_request() {
  const std::uint64_t dice = below(20);
  if (dice < 9) return write_request(some_path(), fresh_value(), tx_);
  if (dice < 11) return path_request(Op::kMkdir, some_path(), tx_);
  if (dice < 14) return path_request(Op::kRm, some_path(), tx_);
  if (dice < 15) return set_perms_request(some_path(), some_perms(), tx_);
  if (dice < 17) return path_request(Op::kRead, some_side_path(), tx_);
  if (dice < 18) return path_request(Op::kDirectory, some_path(), tx_);
  return path_request(Op::kRead, some_path(), tx_);
}

Request RandomTraffic::end() { return end_request(tx_, !one_in(6)); }

void RandomTraffic::plan_transaction() {
  planned_.clear();
  phase_ = Phase::kInside;
  free_while_starting_ = 0;
  const std::uint64_t dice = below(10);
  plan_ = dice < 5   ? Plan::kOwn
          : dice < 7 ? Plan::kOwnAndGroup
          : dice < 8 ? Plan::kReadGroup
                     : Plan::kCount;
  const auto group = static_cast<unsigned>(below(kGroups));
  if (plan_ == Plan::kCount) {
    planned_.push_back(
        path_request(Op::kRead, counter_path(static_cast<unsigned>(below(kCounters))), tx_));
    return;
  }
  if (plan_ != Plan::kReadGroup) {
    for (std::uint64_t more = below(8); more > 0; --more) planned_.push_back(inside_request());
  }
  const std::string value = fresh_value();
  for (unsigned member = 0; plan_ != Plan::kOwn && member < kGroupSize; ++member) {
    const std::string path = group_path(group, member);
    planned_.push_back(plan_ == Plan::kReadGroup ? path_request(Op::kRead, path, tx_)
                                                 : write_request(path, value, tx_));
  }
  if (plan_ == Plan::kOwn && abandoned_ < kAbandonedMax && one_in(20) && !planned_.empty()) {
    ++abandoned_;
  } else {
    planned_.push_back(end());
  }
}

void RandomTraffic::replied(const Request& request, const Frame& frame) {
  if (request.op == Op::kTransactionStart) {
    tx_ = id_in(frame);
    plan_transaction();
  }
  if (phase_ == Phase::kCounting && request.op == Op::kRead && request.tx == tx_) {
    const unsigned long count = std::strtoul(frame.payload.c_str(), nullptr, 10);
    phase_ = Phase::kInside;
    free_while_starting_ = 0;
    if (frame.type != Op::kError)
      planned_.push_back(write_request(path_of(request),
                                       std::to_string(count + 1) + "." +
                                           std::to_string(region_.client) + "." +
                                           std::to_string(++values_),
                                       tx_));
    planned_.push_back(end());
  }
}

std::optional<Request> ScriptTraffic::next() {
  if (position_ == script_.size()) return {};
  Request request = script_[position_];
  if (request.tx != 0) {
    if (!tx_) return {};
    request.tx = *tx_;
  }
  ++position_;
  if (request.op == Op::kTransactionStart) tx_.reset();
  return request;
}

void ScriptTraffic::replied(const Request& request, const Frame& frame) {
  if (request.op == Op::kTransactionStart) tx_ = id_in(frame);
}

}  // namespace crash
