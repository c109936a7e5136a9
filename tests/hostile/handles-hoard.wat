;; Makes timers for ever and drops none. Must end at the limit on handles.
(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(run (loop $on (drop (call $subscribe (i64.const 1))) (br $on)) unreachable)
