"use strict";
// Asks for a key only where the service requires one, and keeps the key in the memory of this page alone.
const form = document.getElementById("key-form");
const input = document.getElementById("key");
const message = document.getElementById("key-error");

async function load(key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch("openapi.json", { headers });
  if (response.status === 401 || response.status === 403) {
    form.hidden = false;
    input.focus();
    if (key) message.textContent = (await response.json()).detail;
    return;
  }
  if (!response.ok) {
    form.hidden = false;
    message.textContent = `The service answered ${response.status}.`;
    return;
  }
  form.hidden = true;
  SwaggerUIBundle({
    spec: await response.json(),
    dom_id: "#swagger-ui",
    validatorUrl: null,
    deepLinking: true,
    requestInterceptor: (request) => {
      if (key) request.headers.Authorization = `Bearer ${key}`;
      return request;
    },
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  message.textContent = "";
  load(input.value.trim());
});
load("");
