// SPDX-License-Identifier: MIT
/// Holds the server to its promises. It is told every request that is sent and
/// every frame that arrives, and after each kill it is shown all that the new
/// server holds; it answers with what is wrong. It knows nothing of how the
/// traffic is made (it must keep to layout.h) nor of how the server works.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/crash/client_model.h"
#include "tools/crash/layout.h"
#include "tools/crash/shared.h"
#include "tools/crash/verdict.h"
#include "tools/crash/walk.h"

namespace crash {

class Checker {
 public:
  explicit Checker(const std::vector<Region>& regions);
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;

  /// What the server holds before the first request of any client.
  void begin(const Walk& initial);

  void sent(unsigned client, std::uint32_t req_id, const Request& request);
  Verdict received(unsigned client, const Frame& frame);

  /// All connections have ended and been read to their end; `found` is what the
  /// server holds now. When it is right, everything starts anew from there.
  Verdict check(const Walk& found);

  const Statistics& statistics() const { return statistics_; }
  const ClientModel& client(unsigned client) const { return clients_.at(client); }

 private:
  using Candidates = std::vector<std::vector<Candidate>>;  ///< a list a client

  Verdict check_rest(const Walk& found) const;
  Verdict match_regions(const Walk& found, Candidates& candidates) const;
  static Verdict keep_done(Candidates& candidates, RequestId by, const std::string& why);
  Verdict narrow_by_registers(const Walk& found, Candidates& candidates);
  Verdict check_registers(const Walk& found, const Candidates& candidates);
  Verdict check_groups(const Walk& found) const;
  Verdict check_counters(const Walk& found, const Candidates& candidates) const;
  Verdict check_outposts(const Walk& found) const;
  Verdict check_generations(const Walk& found) const;
  void settle(const Walk& found, const Candidates& candidates);
  Tree rest_of(const Tree& whole) const;
  bool is_owned(const std::string& path) const;

  /// When an outpost was asked for and when it was surely there.
  struct Creation {
    RequestId by;
    Moment sent = 0;
    Moment certain = kNever;
  };

  Moment now_ = 1;
  Shared shared_;
  Statistics statistics_;
  std::vector<ClientModel> clients_;
  std::vector<std::uint64_t> sent_count_;
  std::vector<std::map<std::uint32_t, std::string>> outposts_under_way_;  ///< by req_id
  std::map<std::string, Creation> outposts_;
  Tree rest_;
  Walk last_;
};

}  // namespace crash
