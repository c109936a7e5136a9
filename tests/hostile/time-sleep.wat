;; Tries to sleep for an hour. Must end at its deadline.
(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
(run (call $block (call $subscribe (i64.const 3600000000000))) unreachable)
