# Puts node and this toolchain's rustc into the folder $1 with all they need, so that they run under
# another system's kernel and files; and a crate to check, from the checkout $2.
set -eu
out=$1
sysroot=$(rustc --print sysroot)
target=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$out/native/bin" "$out/native/lib/rustlib/$target/lib" "$out/checked"
cp -L "$(command -v node)" "$out/native/node"
cp -L "$sysroot/bin/rustc" "$out/native/bin/"
cp -L "$sysroot"/lib/librustc_driver-* "$out/native/lib/"
cp -L "$sysroot/lib/rustlib/$target"/lib/lib*.r* "$out/native/lib/rustlib/$target/lib/"
ldd "$out/native/node" "$sysroot/bin/rustc" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sort -u |
    while read -r library; do
        cp -L "$library" "$out/native/lib/"
    done
cp -L "$(ldd "$out/native/node" | sed -n 's/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p')" "$out/native/ld.so"
# A module that is whole by itself.
cp "$2/crates/plan/src/shares.rs" "$out/checked/lib.rs"
cp "$2/crates/plan/src/shares/jobs.rs" "$out/checked/"
