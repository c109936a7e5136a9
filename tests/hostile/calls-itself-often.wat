;; Calls itself for ever, and so does each that it calls. Must end at the number of calls that one task has, whoever
;; makes them.
(import "chimera:skill/skills@0.1.0" "call" (func $call (param i32 i32 i32 i32 i32)))
(data (i32.const 2048) "hostile/calls-itself-often")
(run
    (loop $on
        (global.set $heap (i32.const 65536))
        (call $call (i32.const 2048) (i32.const 26) (i32.const 1100) (i32.const 2) (i32.const 1536))
        (br $on))
    unreachable)
