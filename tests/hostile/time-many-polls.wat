;; Tries to keep the host busy with waits that are over at once. Must end at the limit on waits.
(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
(import "wasi:io/poll@0.2.6" "[resource-drop]pollable" (func $drop (param i32)))
(run (local $p i32)
    (loop $on
        (local.set $p (call $subscribe (i64.const 0)))
        (call $block (local.get $p))
        (call $drop (local.get $p))
        (br $on))
    unreachable)
