<?php
// A chat for `ws-worker serve --app http://127.0.0.1:8080/chat.php`:  php -S 127.0.0.1:8080
// or, with php-fpm,       `ws-worker serve --app fcgi+unix:///run/php/php-fpm.sock:/srv/www/chat.php`

if ($_SERVER['HTTP_WS_EVENT'] === 'message') { // A 2xx lets the socket in; there is nothing to say when it is gone.
    header('Ws-To: all');
    header('Content-Type: ' . $_SERVER['CONTENT_TYPE']);
    readfile('php://input');
}
