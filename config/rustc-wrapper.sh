#!/bin/sh
# What cargo calls instead of rustc (.cargo/config.toml). The programs of our images have no libraries beside them, so they are linked
# statically; flags for a whole build would have all that they depend on compiled a second time.
case " $* " in
*" --crate-name pause --"* | *" --crate-name troupe_dns --"* | *" --crate-name troupe_sample_web --"*) exec "$@" -C target-feature=+crt-static ;;
esac
exec "$@"
