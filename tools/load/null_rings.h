// SPDX-License-Identifier: MIT
/// Rings of a server that does nothing: the least that serving a domain can cost.
///
/// Made as the daemon's own are: the same rings library, all that a ring holds taken in one go, one
/// notification for each ring and turn, all ports unmasked by one call. But nothing is stored.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rings/hypervisor.h"

namespace load {

class NullRings {
 public:
  /// Ends the program, with the reasons, where there is no Xen.
  static std::unique_ptr<NullRings> open();

  int event_fd() const { return hypervisor_->event_fd(); }
  /// Answers everything that is there.
  void serve();
  /// Take the payloads of requests. What cannot be done is reported on stderr.
  void introduce(std::string_view payload);
  void release(std::string_view payload);

 private:
  struct Ring {
    store::Domid domid;
    rings::Hypervisor::MappedRing page;
    rings::RequestRing requests;
    rings::ReplyRing replies;
    std::string input;   ///< a frame that is not whole yet
    std::string output;  ///< what the guest has no room for
  };

  explicit NullRings(std::unique_ptr<rings::Hypervisor> hypervisor)
      : hypervisor_(std::move(hypervisor)) {}
  void serve(rings::LocalPort port, Ring& ring);

  std::unique_ptr<rings::Hypervisor> hypervisor_;
  std::unordered_map<rings::LocalPort, Ring> by_port_;
  std::vector<rings::LocalPort> taken_;
};

}  // namespace load
