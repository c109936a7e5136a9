;; Returns a string that is no UTF-8. Must trap.
(data (i32.const 2048) "\22\ff\fe\c0\80\22")
(run
    (call $ok (i32.const 2048) (i32.const 6) (f64.const 1)))
