;; Returns a number that no float holds. Must be refused as output.
(data (i32.const 2048) "{\"n\":1e999999}")
(run
    (call $ok (i32.const 2048) (i32.const 14) (f64.const 1)))
