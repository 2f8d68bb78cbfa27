//! iptables, netlink, CNI, IPAM and DNS records, and a recording fake.
