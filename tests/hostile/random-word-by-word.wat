;; Asks for random numbers for ever, eight bytes at a time. Must end, at the limit of the run or at its deadline.
(import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))
(run (loop $on (drop (call $random)) (br $on)) unreachable)
