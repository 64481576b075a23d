// SPDX-License-Identifier: MIT
/// Requests about domains, all for privileged clients but GET_DOMAIN_PATH.
#include <algorithm>
#include <charconv>

#include "store/path.h"
#include "xenstored/daemon.h"

namespace xenstored {

using store::Answer;
using store::Domid;
using store::Quota;
using store::WireError;

long leading_number(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || (text.front() >= '\t' && text.front() <= '\r'))) {
    text.remove_prefix(1);
  }
  if (text.starts_with('+')) text.remove_prefix(1);
  long number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

Answer<std::uint32_t> whole_number(std::string_view text, std::uint32_t max) {
  std::uint32_t number = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || end.ec != std::errc() || end.ptr != text.data() + text.size() ||
      number > max) {
    return tl::unexpected(WireError::kInval);
  }
  return number;
}

bool Daemon::exists(Domid domid) {
  if (domid == store::kDom0) return true;
  const Domain* domain = find_domain(domid);
  if (domain != nullptr && domain->is_introduced()) return true;
  return hypervisor_ == nullptr ? domid < store::kFirstReservedDomid
                                : hypervisor_->domain(domid).has_value();
}

Domain* Daemon::find_domain(Domid domid) {
  const auto found = domains_.find(domid);
  return found == domains_.end() ? nullptr : &found->second;
}

Domain& Daemon::domain(Domid domid) {
  const auto [found, fresh] = domains_.try_emplace(domid);
  if (fresh) {
    found->second.domid = domid;
    refresh_limits(found->second);
  }
  return found->second;
}

/// A domain id as atoi reads it. Error: kInval for what no domain can have.
Answer<Domid> Daemon::domid_arg(std::string_view text) const {
  const long number = leading_number(text);
  if (number < 0 || number >= raw(store::kFirstReservedDomid)) {
    return tl::unexpected(WireError::kInval);
  }
  return Domid{static_cast<std::uint16_t>(number)};
}

/// The one argument of RELEASE and RESUME: an introduced domain, not domain 0.
Answer<Domain*> Daemon::introduced_arg(Session& session) {
  const auto text = only_string(session.payload);
  if (!text.has_value()) return tl::unexpected(text.error());
  const auto domid = domid_arg(text.value());
  if (!domid.has_value()) return tl::unexpected(domid.error());
  if (domid.value() == store::kDom0) return tl::unexpected(WireError::kInval);
  Domain* found = find_domain(domid.value());
  if (found == nullptr || !found->is_introduced()) return tl::unexpected(WireError::kNoent);
  return found;
}

/// For features and quotas: a domain that exists, introduced or not yet.
Answer<Domid> Daemon::existing_arg(std::string_view text) {
  const auto number = whole_number(text, 0xFFFF);
  if (!number.has_value()) return tl::unexpected(number.error());
  const Domid domid{static_cast<std::uint16_t>(number.value())};
  if (!exists(domid)) return tl::unexpected(WireError::kNoent);
  return domid;
}

/// Domid NUL gfn NUL port NUL. What a known domain had on its connection is
/// dropped: it starts again with an empty ring.
Answer<void> Daemon::do_introduce(Session& session) {
  const auto args = split_strings(session.payload);
  if (args.size() < 3) return tl::unexpected(WireError::kInval);
  const auto domid = domid_arg(args[0]);
  const long port = leading_number(args[2]);
  if (!domid.has_value() || domid.value() == store::kDom0 || port <= 0 || port > 0xFFFFFFFFL) {
    return tl::unexpected(WireError::kInval);
  }
  const auto conn_space =
      journal_.space_for_put(256) + journal_.space_for_put(64) + journal_.space_for_removals(1024);
  if (!journal_.reserve(conn_space) || !reserve_release(domid.value())) {
    return tl::unexpected(WireError::kNospc);
  }
  const auto gfn = static_cast<std::uint64_t>(std::max(0L, leading_number(args[1])));
  const auto answer = introduce(domid.value(), gfn, static_cast<std::uint32_t>(port));
  if (answer.has_value()) reply_.assign("OK", 3);
  return answer;
}

/// Who a domain's connection acts as follows from options and table.
store::Caller Daemon::domain_caller(Domid domid) {
  const Domain* known = find_domain(domid);
  return {.domid = domid,
          .target = known == nullptr ? std::nullopt : known->target,
          .privileged = domid == store::kDom0 ||
                        (options_.priv_domid != 0 && raw(domid) == options_.priv_domid)};
}

void Daemon::refresh_callers() {
  for (auto& [domid, known] : domains_) {
    if (known.is_introduced()) find(*known.conn)->caller = domain_caller(domid);
  }
}

Answer<void> Daemon::do_release(Session& session) {
  const auto found = introduced_arg(session);
  if (!found.has_value()) return tl::unexpected(found.error());
  if (!reserve_release(found.value()->domid)) return tl::unexpected(WireError::kNospc);
  release(*found.value());
  reply_.assign("OK", 3);
  return {};
}

/// The domain runs again: its next shutdown is news.
Answer<void> Daemon::do_resume(Session& session) {
  const auto found = introduced_arg(session);
  if (!found.has_value()) return tl::unexpected(found.error());
  if (!journal_.reserve(journal_.space_for_put(256), journal::Purpose::kRemoval)) {
    return tl::unexpected(WireError::kNospc);
  }
  found.value()->shutdown = false;
  save_domain(*found.value());
  reply_.assign("OK", 3);
  return {};
}

/// Domid NUL target NUL: the first acts with the second's permissions too.
Answer<void> Daemon::do_set_target(Session& session) {
  const auto args = split_strings(session.payload);
  if (args.size() < 2) return tl::unexpected(WireError::kInval);
  const auto domid = domid_arg(args[0]);
  const auto target = domid_arg(args[1]);
  if (!domid.has_value() || !target.has_value()) return tl::unexpected(WireError::kInval);
  Domain* found = find_domain(domid.value());
  Domain* found_target = find_domain(target.value());
  if (found == nullptr || !found->is_introduced() || found_target == nullptr ||
      !found_target->is_introduced()) {
    return tl::unexpected(WireError::kNoent);
  }
  if (!journal_.reserve(journal_.space_for_put(256))) return tl::unexpected(WireError::kNospc);
  found->target = target.value();
  found_target->is_target = true;
  save_domain(*found);
  refresh_callers();
  reply_.assign("OK", 3);
  return {};
}

Answer<void> Daemon::do_is_domain_introduced(Session& session) {
  const auto text = only_string(session.payload);
  if (!text.has_value()) return tl::unexpected(text.error());
  const long number = leading_number(text.value());
  bool is_introduced = number == 0 || number == raw(store::kDomidSelf);
  if (const auto domid = domid_arg(text.value()); domid.has_value()) {
    const Domain* found = find_domain(domid.value());
    is_introduced = is_introduced || (found != nullptr && found->is_introduced());
  }
  reply_.assign(is_introduced ? "T" : "F", 2);
  return {};
}

/// Only a name: the domain need not exist.
Answer<void> Daemon::do_get_domain_path(Session& session) {
  const auto text = only_string(session.payload);
  if (!text.has_value()) return tl::unexpected(text.error());
  reply_ = store::domain_path(Domid{static_cast<std::uint16_t>(leading_number(text.value()))});
  reply_ += '\0';
  return {};
}

/// [domid NUL]: the domain's features, or all that are offered.
Answer<void> Daemon::do_get_feature(Session& session) {
  const auto args = split_strings(session.payload);
  if (args.size() > 1) return tl::unexpected(WireError::kInval);
  std::uint32_t features = kAllFeatures;
  if (!args.empty()) {
    const auto domid = existing_arg(args[0]);
    if (!domid.has_value()) return tl::unexpected(domid.error());
    if (const Domain* known = find_domain(domid.value())) features = known->features;
  }
  reply_ = std::to_string(features);
  reply_ += '\0';
  return {};
}

/// Domid NUL value NUL.
Answer<void> Daemon::do_set_feature(Session& session) {
  const auto args = split_strings(session.payload);
  if (args.size() != 2) return tl::unexpected(WireError::kInval);
  const auto features = whole_number(args[1]);
  if (!features.has_value() || (features.value() & ~kAllFeatures) != 0) {
    return tl::unexpected(WireError::kInval);
  }
  const auto domid = existing_arg(args[0]);
  if (!domid.has_value()) return tl::unexpected(domid.error());
  if (!journal_.reserve(journal_.space_for_put(256))) return tl::unexpected(WireError::kNospc);
  Domain& known = domain(domid.value());
  known.features = features.value();
  save_domain(known);
  reply_.assign("OK", 3);
  return {};
}

/// [[domid NUL] quota NUL]: the value, or the names of all quotas.
Answer<void> Daemon::do_get_quota(Session& session) {
  const auto args = split_strings(session.payload);
  if (args.size() > 2) return tl::unexpected(WireError::kInval);
  if (args.empty()) {
    for (std::size_t quota = 0; quota < store::kQuotaCount; ++quota) {
      if (quota != 0) reply_ += ' ';
      reply_ += quota_name(static_cast<Quota>(quota));
    }
    reply_ += '\0';
    return {};
  }
  const store::Limits* limits = &limits_;
  if (args.size() == 2) {
    const auto domid = existing_arg(args[0]);
    if (!domid.has_value()) return tl::unexpected(domid.error());
    if (const Domain* known = find_domain(domid.value())) limits = &known->limits;
  }
  const auto quota = store::quota_of_name(args.back());
  if (!quota.has_value()) return tl::unexpected(WireError::kInval);
  reply_ = std::to_string((*limits)[*quota]);
  reply_ += '\0';
  return {};
}

/// [domid NUL] quota NUL value NUL.
Answer<void> Daemon::do_set_quota(Session& session) {
  const auto args = split_strings(session.payload);
  if (args.size() != 2 && args.size() != 3) return tl::unexpected(WireError::kInval);
  const auto quota = store::quota_of_name(args[args.size() - 2]);
  const auto value = whole_number(args.back());
  if (!quota.has_value() || !value.has_value()) return tl::unexpected(WireError::kInval);
  if (!journal_.reserve(journal_.space_for_put(512))) return tl::unexpected(WireError::kNospc);
  if (args.size() == 2) {
    set_global_quota(*quota, value.value());
  } else {
    const auto domid = existing_arg(args[0]);
    if (!domid.has_value()) return tl::unexpected(domid.error());
    Domain& known = domain(domid.value());
    known.own_quotas[*quota] = value.value();
    refresh_limits(known);
    save_domain(known);
  }
  reply_.assign("OK", 3);
  return {};
}

/// Holds for all domains that have no value of their own, and after a restart.
void Daemon::set_global_quota(Quota quota, std::uint32_t value) {
  limits_[quota] = value;
  journal_.put(
      journal::SettingRecord{"quota/" + std::string(quota_name(quota)), std::to_string(value)});
  for (auto& [domid, known] : domains_) refresh_limits(known);
}

void Daemon::refresh_limits(Domain& changed) {
  changed.limits = limits_;
  for (const auto& [quota, value] : changed.own_quotas) changed.limits[quota] = value;
  Connection* conn = changed.conn ? find(*changed.conn) : nullptr;
  if (conn != nullptr && std::exchange(conn->is_stalled, false)) mark_runnable(*conn);
}

}  // namespace xenstored
