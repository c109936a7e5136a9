;; Asks for random numbers for ever, a permitted megabyte at a time. Must end at the limit of the run.
(import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))
(run
    (loop $on
        (global.set $heap (i32.const 65536))
        (call $random (i64.const 1048576) (i32.const 1536))
        (br $on))
    unreachable)
