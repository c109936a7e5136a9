;; Tries to ask for ever whether a timer of an hour is ready. Must end at the limit on waits.
(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.6" "[method]pollable.ready" (func $ready (param i32) (result i32)))
(run (local $p i32)
    (local.set $p (call $subscribe (i64.const 3600000000000)))
    (loop $on (drop (call $ready (local.get $p))) (br $on))
    unreachable)
