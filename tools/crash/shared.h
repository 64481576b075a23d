// SPDX-License-Identifier: MIT
/// The model of what several clients write at once: registers, each a node whose
/// every written value is unique. A value found is right if and only if some
/// write put it there and no write that certainly happened came later.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace crash {

/// A moment in the checker's own time, which counts sends and receipts.
using Moment = std::uint64_t;
inline constexpr Moment kNever = std::numeric_limits<Moment>::max();

/// Which request: the index counts a client's requests over all its connections.
struct RequestId {
  unsigned client = 0;
  std::uint64_t index = 0;
  friend auto operator<=>(const RequestId&, const RequestId&) = default;
};

struct SharedWrite {
  std::string value;
  RequestId by;  ///< the WRITE, or the END of its transaction
  Moment sent = 0;
  /// When it had certainly happened: acknowledged, or its value read by somebody.
  Moment certain = kNever;
  bool was_refused = false;  ///< answered with an error: must never be seen
};

class Shared {
 public:
  /// The register `path` holds `value` now; what was written before is settled.
  void settle(const std::string& path, const std::string& value);
  bool has(const std::string& path) const { return registers_.contains(path); }

  void sent(const std::string& path, std::string value, RequestId by, Moment now);
  void acknowledged(RequestId by, Moment now);
  void refused(RequestId by);

  /// A READ that was sent at `sent` by `reader` and answered `value` at `now`.
  /// (In a transaction: sent when its START was.) Says what is wrong with it.
  std::optional<std::string> read(const std::string& path, const std::string& value,
                                  RequestId reader, Moment sent, Moment now);

  /// The value found after a cut; `now` as above. On success the write that put
  /// it there, if it was not the settled value.
  struct Found {
    std::optional<RequestId> by;
    std::string wrong;  ///< empty when the value is a right one
  };
  Found found(const std::string& path, const std::string& value, Moment now);

  const std::map<std::string, std::vector<SharedWrite>>& writes() const { return writes_; }
  const std::string& settled(const std::string& path) const { return registers_.at(path); }

 private:
  const SharedWrite* later_certain(const std::string& path, const SharedWrite* write, Moment before,
                                   std::optional<RequestId> reader) const;
  SharedWrite* find(const std::string& path, const std::string& value);

  std::map<std::string, std::string> registers_;  ///< path -> settled value
  std::map<std::string, std::vector<SharedWrite>> writes_;
};

}  // namespace crash
