;; Returns a string of 400 MB. Must end at the limit on what it hands over, with nothing copied.
(run
    (drop (memory.grow (i32.const 6500)))
    (call $ok (i32.const 65536) (i32.const 419430400) (f64.const 1)))
