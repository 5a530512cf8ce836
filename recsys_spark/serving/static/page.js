// Sends what is clicked as an event, puts the new panel in place of the old one, and marks what moved.
"use strict";

const panel = document.getElementById("panel");
const said = document.getElementById("said");
const user = document.body.dataset.user;
const keyed = "keyed" in document.body.dataset;

function headers(more) {
  const key = sessionStorage.getItem("api-key");
  return key ? { ...more, "X-API-Key": key } : { ...more };
}

function say(text, bad = false) {
  said.textContent = text;
  said.classList.toggle("bad", bad);
}

async function answered(path, options) {
  const response = await fetch(path, options);
  if (!response.ok) {
    const refusal = await response.json().catch(() => ({ detail: response.statusText }));
    throw new Error(refusal.detail);
  }
  return response;
}

function ranks() {
  return new Map([...panel.querySelectorAll(".card")].map((card) => [card.dataset.item, Number(card.dataset.rank)]));
}

async function show() {
  const path = "/page/panel?user=" + encodeURIComponent(user);
  panel.innerHTML = await (await answered(path, { headers: headers({}) })).text();
}

function mark(before) {
  let fresh = 0, moved = 0;
  for (const card of panel.querySelectorAll(".card")) {
    const was = before.get(card.dataset.item), now = Number(card.dataset.rank), sign = card.querySelector(".moved");
    if (was === undefined) {
      card.classList.add("new");
      sign.textContent = "new";
      fresh += 1;
    } else if (was !== now) {
      sign.textContent = was > now ? "▲ " + (was - now) : "▼ " + (now - was);
      sign.classList.toggle("down", was < now);
      moved += 1;
    }
  }
  return fresh || moved ? `${fresh} new in the list, ${moved} moved` : "the list stays as it was";
}

function eventId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return "page-" + [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function send(button) {
  const card = button.closest(".card"), title = card.querySelector("h3").firstChild.textContent.trim();
  const event = { event_id: eventId(), user_id: user, item_id: card.dataset.item, event_type: button.dataset.type };
  const time = panel.querySelector("[data-event-time]").dataset.eventTime;
  if (time) event.event_time = time;
  const before = ranks(), buttons = panel.querySelectorAll("button");
  buttons.forEach((each) => { each.disabled = true; });
  try {
    await answered("/v1/events", {
      method: "POST",
      headers: headers({ "Content-Type": "application/json" }),
      body: JSON.stringify({ events: [event] }),
    });
    await show();
    say(`${button.dataset.type === "purchase" ? "Bought" : "Clicked"} ${title}: ${mark(before)}.`);
    panel.focus({ preventScroll: true });
  } catch (error) {
    say(String(error.message), true);
    buttons.forEach((each) => { each.disabled = false; });
  }
}

panel.addEventListener("click", (click) => {
  const button = click.target.closest("button[data-type]");
  if (button) send(button);
});

if (keyed) {
  const open = () => user && show().then(() => say("")).catch((error) => say(String(error.message), true));
  document.getElementById("unlock").addEventListener("submit", (submit) => {
    submit.preventDefault();
    sessionStorage.setItem("api-key", document.getElementById("key").value);
    document.getElementById("key").value = "";
    say("The key is kept until this tab is closed.");
    open();
  });
  open();
}
