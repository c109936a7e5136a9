;; Tries to wait for the last moment that a clock can show, where sums overflow. Must end at its deadline.
(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-instant" (func $at (param i64) (result i32)))
(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
(run (drop (call $at (i64.const -1))) (call $block (call $subscribe (i64.const -1))) unreachable)
