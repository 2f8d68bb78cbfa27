# A network namespace that ends where a host's link would: its address, a way outside that nobody answers. For scripts to read in.

# namespace NAME LINK ADDRESS
namespace() {
    ip netns add "$1"
    ip -n "$1" link set lo up
    ip link add "$2" type veth peer name uplink netns "$1"
    ip link set "$2" up
    ip -n "$1" address add "$3/24" dev uplink
    ip -n "$1" link set uplink up
    ip -n "$1" route add default via "${3%.*}.1"
}
