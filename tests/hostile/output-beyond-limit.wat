;; Returns valid JSON of twice its own limit. Must be refused.
(run
    (drop (memory.grow (i32.const 4)))
    (memory.fill (i32.const 65536) (i32.const 0x20) (i32.const 131072))
    (i32.store16 (i32.const 65536) (i32.const 0x7d7b))
    (call $ok (i32.const 65536) (i32.const 131072) (f64.const 1)))
