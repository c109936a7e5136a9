;; Observes a topic of two megabytes that weighs nothing that is a number. Must be told that it is too large.
(import "chimera:skill/trends@0.1.0" "observe" (func $observe (param i32 i32 f64 i32 i32 i32)))
(run
    (drop (memory.grow (i32.const 48)))
    (memory.fill (i32.const 65536) (i32.const 0x20) (i32.const 2097152))
    (i32.store16 (i32.const 65536) (i32.const 0x7d7b))
    (call $observe (i32.const 65536) (i32.const 2097152) (f64.const nan) (i32.const 1100) (i32.const 2) (i32.const 1536))
    (call $pass_on (i32.const 1536)))
