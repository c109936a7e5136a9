;; Remembers two megabytes at once. Must be told that they are too large.
(import "chimera:skill/memory@0.1.0" "remember" (func $remember (param i32 i32 i32 i32 i32)))
(run
    (drop (memory.grow (i32.const 48)))
    (memory.fill (i32.const 65536) (i32.const 0x20) (i32.const 2097152))
    (i32.store16 (i32.const 65536) (i32.const 0x7d7b))
    (call $remember (i32.const 65536) (i32.const 2097152) (i32.const 1100) (i32.const 2) (i32.const 1536))
    (call $pass_on (i32.const 1536)))
