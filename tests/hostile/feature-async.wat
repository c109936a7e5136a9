;; Uses asynchronous functions and streams of the component model. Must be refused when it is installed.
(component (type $s (stream u8)) (core func (canon stream.new $s)))
